//! A container on its way: cut, changed, exchanged, in pieces of any size. Bytes are given out only as they
//! were sealed, and the end says whether something is missing.
//!
//! An input: which section, pieces' sizes, then changes of its payload.

use scheme::{CHUNK_BYTES, CHUNK_TAG_BYTES, DisclosedSecret, Header, OpenError, SectionOpener};

use crate::input::Input;
use crate::world::{HERE, WORLD, World};

/// A sealed chunk.
const SEALED: usize = CHUNK_BYTES + CHUNK_TAG_BYTES;

/// Opens a section after changes, or looks for it in a changed header.
pub fn run(bytes: &[u8]) {
    let world = &*WORLD;
    let mut input = Input::new(bytes);
    match input.below(4) {
        3 => changed_header(world, &mut input),
        place => changed_payload(world, place, &mut input),
    }
}

fn changed_payload(world: &World, place: usize, input: &mut Input<'_>) {
    let (index, key, plain) = &world.sections[place];
    let header = &world.header;
    let start = header.payload_offset(*index) as usize;
    let payload = &world.container[start..start + header.payload_length(*index) as usize];
    let piece = 1 + usize::from(input.u16());
    let mut changed = payload.to_vec();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        change(&mut changed, world, input);
    }

    let mut opener = SectionOpener::new(header, *index, key);
    let mut out = Vec::new();
    let updated: Result<(), OpenError> = changed
        .chunks(piece)
        .try_for_each(|piece| opener.update(piece, &mut out));
    let opened = updated.and_then(|()| opener.finish());
    assert!(plain.starts_with(&out), "bytes that nobody sealed");
    match opened {
        Ok(length) => {
            assert!(changed == payload, "a changed payload opens");
            assert!(length == plain.len() as u64 && out == *plain);
        }
        Err(_) => assert!(changed != payload, "an unchanged payload does not open"),
    }
}

/// One change of a payload; some change nothing.
fn change(payload: &mut Vec<u8>, world: &World, input: &mut Input<'_>) {
    let how = input.below(9);
    let at = (usize::from(input.u8()) << 16 | usize::from(input.u16())) % payload.len().max(1);
    let chunks = payload.len() / SEALED;
    match how {
        0 => {
            let with = input.u8();
            if let Some(byte) = payload.get_mut(at) {
                *byte ^= with;
            }
        }
        1 => payload.truncate(at),
        2 => {
            let end = (at + usize::from(input.u16())).min(payload.len());
            payload.drain(at.min(end)..end);
        }
        3 => {
            let inserted = input.short();
            payload.splice(
                at.min(payload.len())..at.min(payload.len()),
                inserted.iter().copied(),
            );
        }
        4 => payload.extend_from_slice(input.short()),
        // Two whole chunks change places.
        5 if chunks > 1 => {
            let (one, other) = (at % chunks, input.below(chunks));
            let (first, second) = (one.min(other), one.max(other));
            if first != second {
                let (before, behind) = payload.split_at_mut(second * SEALED);
                before[first * SEALED..(first + 1) * SEALED].swap_with_slice(&mut behind[..SEALED]);
            }
        }
        // A chunk comes twice.
        6 if chunks > 0 => {
            let at = (at % chunks) * SEALED;
            let chunk = payload[at..at + SEALED].to_vec();
            payload.splice(at..at, chunk);
        }
        // A chunk is missing.
        7 if chunks > 0 => {
            let at = (at % chunks) * SEALED;
            payload.drain(at..at + SEALED);
        }
        // Another section's payload.
        8 => {
            let (other, _, _) = &world.sections[at % world.sections.len()];
            let start = world.header.payload_offset(*other) as usize;
            let length = world.header.payload_length(*other) as usize;
            *payload = world.container[start..start + length].to_vec();
        }
        _ => {}
    }
}

/// A header of which bytes are changed is refused, or is one under which no section opens.
fn changed_header(world: &World, input: &mut Input<'_>) {
    let mut bytes = world.header.encode();
    let is = bytes.clone();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let at = usize::from(input.u16()) % bytes.len();
        bytes[at] ^= input.u8();
    }
    let secret = DisclosedSecret::from_bytes([input.u8(); 32]);
    let Ok((header, _)) = Header::decode(&HERE, &bytes) else {
        assert!(bytes != is, "an unchanged header is refused");
        return;
    };
    assert!(header.encode() == bytes);
    for index in header.sections() {
        assert!(
            secret.content_key(&header, index).is_err(),
            "nobody's secret"
        );
    }
    for index in world.header.sections() {
        // A place that this header may not have.
        let _ = secret.content_key(&header, index);
    }
}

/// Each section as it is, and with each change.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for place in 0..3 {
        for piece in [0, 999, 0xffff_u16] {
            seeds.push([&[place], piece.to_be_bytes().as_slice()].concat());
        }
        for how in 0..9 {
            let change = [how, 0, 0, 100, 3, 1, 2, 3];
            seeds.push([[place, 0x40, 0].as_slice(), &change].concat());
        }
    }
    seeds.push(vec![3]);
    seeds.push(vec![3, 0, 5, 1]);
    seeds.push(vec![3, 0, 150, 0x80, 0, 200, 1]);
    seeds
}
