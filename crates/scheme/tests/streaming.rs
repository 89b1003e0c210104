//! Sealing and opening take memory of a chunk, whatever a section's length. The only test of its
//! file, so that the process's peak is its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/memory.rs"]
mod memory;
mod support;

use memory::{peak_bytes, resident_bytes};
use scheme::*;
use support::*;

const PLAIN_BYTES: u64 = 256 << 20;
/// A thirty-second of what is sealed: nothing that keeps a section's bytes or padding stays below.
const MEMORY_BYTES_MAX: u64 = 8 << 20;

#[test]
fn a_long_section_is_sealed_and_opened_in_bounded_memory() {
    let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
    let pid = patient.pid(&doctor, 0);
    let before = resident_bytes();
    let plan = SectionPlan {
        class: IMAGING,
        length: PLAIN_BYTES,
    };
    let owner = patient.keys.encryption.public_key();
    let author = doctor.author();
    let plans = [plan];
    let sealing = Sealing::new(&consortium(), &author, &owner, &pid, &plans, &mut rng(1)).unwrap();
    let (header, u) = (sealing.header(), sealing.header().encapsulation());
    let index = header.sections().next().unwrap();
    let key = SectionSecret::of_owner(&consortium(), &patient.keys.encryption, &pid, IMAGING, u)
        .content_key(header, index)
        .unwrap();

    // What the sealer gives goes to the opener at once, and what that gives only into a digest.
    let mut sealer = sealing.section(0).unwrap();
    let mut opener = SectionOpener::new(header, index, &key);
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    let (mut came, mut went) = (DigestStream::new(), DigestStream::new());
    let mut payload_bytes = 0;
    let mut pass = |sealed: &[u8]| {
        payload_bytes += sealed.len() as u64;
        opener.update(sealed, &mut opened).unwrap();
        went.update(&opened);
        opened.clear();
    };
    let mut piece = vec![0x5a; 100_000];
    let mut left = PLAIN_BYTES;
    while left > 0 {
        let length = left.min(piece.len() as u64) as usize;
        piece[..8].copy_from_slice(&left.to_be_bytes());
        came.update(&piece[..length]);
        sealer.update(&piece[..length], &mut sealed).unwrap();
        pass(&sealed);
        sealed.clear();
        left -= length as u64;
    }
    let padded = sealer.finish_by_chunk::<SealError>(|chunk| {
        pass(chunk);
        Ok(())
    });
    padded.unwrap();
    assert_eq!(opener.finish().unwrap(), PLAIN_BYTES);
    assert_eq!(payload_bytes, header.payload_length(index));
    assert_eq!(came.finish(), went.finish());

    let grown = peak_bytes() - before;
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more than before");
}
