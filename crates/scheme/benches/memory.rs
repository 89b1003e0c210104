//! Seals 1 GiB in one process and opens it in another, the container going through a pipe, and tells
//! how far each process's peak of resident memory was above the idle process. Linux only.
//! `docs/measured/scheme.md` says what came out. Repeat with
//! `cargo bench -p willis-scheme --bench memory [-- --json docs/measured/scheme.json]`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a child tells its parent by standard error"
)]
#![allow(clippy::unwrap_used, reason = "the fixture's values are all valid")]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark takes arguments and keeps its figures in a file"
)]

#[path = "figures/mod.rs"]
mod figures;
#[path = "../tests/support/memory.rs"]
mod memory;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rand_chacha::rand_core::Rng;
use scheme::*;

use figures::{Figure, Figures, Goal};
use memory::{peak_bytes, resident_bytes};
use support::*;

const PLAIN_BYTES: u64 = 1 << 30;
/// The project's goal.
const GOAL_MIB: f64 = 64.0;
const MIB: f64 = (1 << 20) as f64;
/// How much is moved at once: a chunk, as a client would read it from disk or network.
const PIECE_BYTES: usize = CHUNK_BYTES;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("seal-child") => child(seal),
        Some("open-child") => child(open),
        _ => parent(),
    }
}

/// Runs both children against each other.
fn parent() {
    let mut figures = Figures::new("memory");
    figures.heading("Peak memory above the idle process, 1 GiB as a stream");
    let this = std::env::current_exe().unwrap();
    let mut sealing = Command::new(&this)
        .arg("seal-child")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let opening = Command::new(&this)
        .arg("open-child")
        .stdin(sealing.stdout.take().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut digests = Vec::new();
    for (name, process) in [("opening 1 GiB", opening), ("sealing 1 GiB", sealing)] {
        let output = process.wait_with_output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{name}: {told}");
        let (bytes, digest) = told.trim().split_once(' ').unwrap();
        digests.push(digest.to_owned());
        let mib = bytes.parse::<f64>().unwrap() / MIB;
        figures.add(Figure {
            name: name.to_owned(),
            value: mib,
            unit: "MiB",
            rival: None,
            goal: Some(Goal {
                text: format!("at most {GOAL_MIB} MiB above idle"),
                met: mib <= GOAL_MIB,
            }),
        });
    }
    assert_eq!(digests[0], digests[1], "what was opened is what was sealed");
    figures.finish();
}

/// Tells how far the peak was above what was resident before, and the digest of the plaintext.
fn child(work: impl FnOnce() -> Digest) {
    let idle = resident_bytes();
    let digest = work();
    eprintln!("{} {digest}", peak_bytes() - idle);
}

fn seal() -> Digest {
    let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
    let plan = SectionPlan {
        class: IMAGING,
        length: PLAIN_BYTES,
    };
    let sealing = Sealing::new(
        &consortium(),
        &doctor.author(),
        &patient.keys.encryption.public_key(),
        &patient.pid(&doctor, 0),
        &[plan],
        &mut rng(1),
    )
    .unwrap();
    let mut to = std::io::stdout().lock();
    to.write_all(&sealing.header().encode()).unwrap();
    let mut sealer = sealing.section(0).unwrap();
    let (mut content, mut digest) = (rng(2), DigestStream::new());
    let (mut piece, mut out) = (vec![0; PIECE_BYTES], Vec::new());
    for _ in 0..PLAIN_BYTES / PIECE_BYTES as u64 {
        content.fill_bytes(&mut piece);
        digest.update(&piece);
        sealer.update(&piece, &mut out).unwrap();
        to.write_all(&out).unwrap();
        out.clear();
    }
    let padded = sealer.finish_by_chunk::<SealError>(|chunk| {
        to.write_all(chunk).unwrap();
        Ok(())
    });
    padded.unwrap();
    to.flush().unwrap();
    digest.finish()
}

fn open() -> Digest {
    let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
    let mut from = std::io::stdin().lock();
    let mut first = Vec::new();
    let limit = HEADER_BYTES_MAX as u64;
    from.by_ref().take(limit).read_to_end(&mut first).unwrap();
    let (header, length) = Header::decode(&consortium(), &first).unwrap();
    let header = header.verify().unwrap();
    let header = header.header();
    let index = header.sections().next().unwrap();
    let key = SectionSecret::of_owner(
        &consortium(),
        &patient.keys.encryption,
        &patient.pid(&doctor, 0),
        IMAGING,
        header.encapsulation(),
    )
    .content_key(header, index)
    .unwrap();
    let mut opener = SectionOpener::new(header, index, &key);
    let mut digest = DigestStream::new();
    let (mut piece, mut out) = (vec![0; PIECE_BYTES], Vec::new());
    opener.update(&first[length..], &mut out).unwrap();
    loop {
        digest.update(&out);
        out.clear();
        match from.read(&mut piece).unwrap() {
            0 => break,
            count => opener.update(&piece[..count], &mut out).unwrap(),
        }
    }
    assert_eq!(opener.finish().unwrap(), PLAIN_BYTES);
    digest.finish()
}
