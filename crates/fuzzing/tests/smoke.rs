//! Every target over the inputs that are kept, and over some hundreds that are made of them, on the stable
//! toolchain. What a campaign found stays found.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../record/tests/mutating/mod.rs"]
mod mutating;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzzing::{
    TARGETS, Target, centre_http, cloud_http, hospital_http, ledger_state, node_http, query_http,
};
use mutating::Numbers;

/// Inputs made of each target's own.
const MUTATIONS: u64 = 400;
/// After so long a target has had enough of them; slow ones have fewer.
const MUTATING: Duration = Duration::from_millis(500);
/// All that is kept, so that it is run at each change.
const CORPUS_BYTES_MAX: u64 = 2 << 20;

/// Cuts, flips, splices with another input, repeats, up to three times.
fn mutated(numbers: &mut Numbers, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = inputs[numbers.below(inputs.len())].1.clone();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let end = (at + 1 + numbers.below(64)).min(bytes.len());
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = numbers.number() as u8;
                }
            }
            3 => {
                let other = &inputs[numbers.below(inputs.len())].1;
                let from = numbers.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => {
                let span = bytes[at.min(end)..end].to_vec();
                bytes.splice(at.min(end)..at.min(end), span);
            }
            _ => bytes[at.min(end)..end].fill(0xff),
        }
    }
    bytes
}

/// What does not hold for these bytes.
fn broken(target: &Target, what: &str, bytes: &[u8]) -> Option<String> {
    let run = target.run;
    let panic = catch_unwind(|| run(bytes)).err()?;
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    let said = said.unwrap_or("it panicked");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{}, {what}: {said}\n{hex}", target.name))
}

/// The first of a target's inputs, and of what is made of them, for which something does not hold.
fn first_broken(target: &Target, number: u64, inputs: &[(String, Vec<u8>)]) -> Option<String> {
    let mut kept = inputs.iter();
    let found = kept.find_map(|(name, bytes)| broken(target, name, bytes));
    if found.is_some() {
        return found;
    }
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ number);
    let begun = Instant::now();
    (0..MUTATIONS)
        .take_while(|_| begun.elapsed() < MUTATING)
        .find_map(|round| {
            let bytes = mutated(&mut numbers, inputs);
            broken(target, &format!("mutation {round}"), &bytes)
        })
}

#[test]
fn every_target_holds_for_what_is_kept_and_what_is_made_of_it() {
    seeds_come_through();
    let (mut total, mut failed) = (0, Vec::new());
    for (number, target) in (1..).zip(TARGETS) {
        let inputs = corpus(target.name);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        total += inputs
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>();
        failed.extend(first_broken(target, number, &inputs));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        total <= CORPUS_BYTES_MAX,
        "the corpora have {total} bytes: minimise them"
    );
    // What they leave on the disk goes with them.
    fuzzing::end();
}

/// A target that is refused at the door tries nothing behind it.
fn seeds_come_through() {
    let stories = ledger_state::seeds();
    let taken: usize = stories.iter().map(|one| ledger_state::taken(one)).sum();
    assert!(taken >= 20, "{taken} transactions stand in blocks");
    type Statuses = fn(&[u8]) -> Vec<u16>;
    let served: [(_, Statuses, _); 5] = [
        (centre_http::seeds(), centre_http::statuses, 20),
        (query_http::seeds(), query_http::statuses, 10),
        (node_http::seeds(), node_http::statuses, 20),
        (cloud_http::seeds(), cloud_http::statuses, 20),
        (hospital_http::seeds(), hospital_http::statuses, 20),
    ];
    for (seeds, statuses, least) in served {
        let statuses: Vec<_> = seeds.iter().map(|seed| statuses(seed)).collect();
        let answered = statuses.iter().flatten();
        let done = answered.filter(|status| (200..300).contains(*status));
        assert!(done.count() >= least, "{statuses:?}");
    }
}

#[test]
fn every_target_is_fuzzed_and_nothing_else_is() {
    let targets: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    let files = fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(files, targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let binaries = manifest.split("[[bin]]\n").skip(1);
    let binaries: BTreeSet<String> = binaries
        .map(|binary| {
            let name = binary
                .lines()
                .find_map(|line| line.strip_prefix("name = \""));
            name.unwrap().trim_end_matches('"').to_owned()
        })
        .collect();
    assert_eq!(binaries, targets);
    let corpora: BTreeSet<String> = fs::read_dir(fuzz().join("corpus"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(corpora, targets);
}

/// The inputs that are kept of a target, by their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(folder) = fs::read_dir(fuzz().join("corpus").join(target)) else {
        return Vec::new();
    };
    let mut inputs: Vec<_> = folder
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}
