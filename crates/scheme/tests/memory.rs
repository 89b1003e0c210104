//! No secret is in the process's memory once it was dropped: all of it that can be written is searched, but for
//! the stack of the thread that used it, where a library's copies are out of reach (`SECURITY.md`).
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a process's memory is read by files"
)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

use rand_chacha::ChaCha20Rng;
use scheme::*;
use support::{consortium, rng};

/// What a thread of the tests has as its stack, and some room above.
const STACK_BYTES: usize = 2 << 20;
const ABOVE_BYTES: usize = 64 << 10;
const READ_AT_ONCE: usize = 1 << 20;
/// What is looked for is never itself in memory: it is kept with this added.
const MASK: u8 = 0xa7;

/// Held by each test, since one would find what the search of another has just read.
static ONE_SEARCHES: Mutex<()> = Mutex::new(());

struct Masked([u8; 32]);

impl Masked {
    fn of(secret: &[u8; 32]) -> Self {
        let mut masked = [0; 32];
        for (to, from) in masked.iter_mut().zip(secret) {
            *to = from ^ MASK;
        }
        Self(masked)
    }

    fn is(&self, bytes: &[u8]) -> bool {
        bytes
            .iter()
            .zip(&self.0)
            .all(|(one, other)| one ^ MASK == *other)
    }
}

/// Where in memory these bytes stand.
fn places(of: &Masked) -> Vec<usize> {
    let here = std::ptr::from_ref(of) as usize;
    let stack = here - STACK_BYTES..here + ABOVE_BYTES;
    let mut read = vec![0; READ_AT_ONCE + 31];
    let own = read.as_ptr() as usize..read.as_ptr() as usize + read.len();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = Vec::new();
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let (mut from, to) = (number(from), number(to));
        while from < to {
            let count = (to - from).min(read.len());
            // Some of the kernel's own pages cannot be read.
            if memory
                .read_exact_at(&mut read[..count], from as u64)
                .is_err()
            {
                break;
            }
            for place in 0..count.saturating_sub(31) {
                let at = from + place;
                if of.is(&read[place..place + 32]) && !stack.contains(&at) && !own.contains(&at) {
                    found.push(at);
                }
            }
            from += READ_AT_ONCE;
        }
    }
    // What was read last must not be found by the next search.
    read.fill(0);
    std::hint::black_box(&read);
    found
}

/// Makes a secret on the heap, uses it, and drops it.
fn leaves_nothing<T>(
    what: &str,
    make: impl FnOnce(&mut ChaCha20Rng) -> T,
    bytes: impl Fn(&T) -> &[u8; 32],
    used: impl FnOnce(&T),
) {
    let secret = Box::new(make(&mut rng(0x31)));
    let masked = Masked::of(bytes(&secret));
    let there = places(&masked);
    assert!(
        there.contains(&(std::ptr::from_ref(bytes(&secret)) as usize)),
        "{what} is not found where it is"
    );
    used(&secret);
    drop(secret);
    let left = places(&masked);
    assert!(left.is_empty(), "{what} is still at {left:x?}");
}

#[test]
fn dropped_secrets_are_nowhere() {
    let _alone = ONE_SEARCHES.lock().unwrap();
    let here = consortium();
    leaves_nothing("a seed", RootSeed::random, RootSeed::expose_bytes, |seed| {
        drop(PatientKeys::derive(seed, KeyVersion::new(0), &here));
    });
    leaves_nothing(
        "a signing key",
        SigningKey::random,
        SigningKey::expose_seed,
        |key| {
            let _signature = key.sign(Context::Reading, &here, &[b"something"]);
        },
    );
    leaves_nothing(
        "an HPKE key",
        HpkePrivateKey::random,
        HpkePrivateKey::expose_bytes,
        |key| {
            let mut rng = rng(0x32);
            let sealed = key
                .public_key()
                .seal(Purpose::GrantToNode, &here, b"", b"some text", &mut rng)
                .unwrap();
            drop(key.open(Purpose::GrantToNode, &here, b"", &sealed).unwrap());
        },
    );
    leaves_nothing(
        "a patient's keys",
        |rng| PatientKeys::derive(&RootSeed::random(rng), KeyVersion::new(0), &here),
        |keys| keys.inbox.expose_bytes(),
        |keys| {
            let _public = keys.inbox.public_key();
        },
    );
    leaves_nothing(
        "a directory's key",
        |rng| PatientKeys::derive(&RootSeed::random(rng), KeyVersion::new(0), &here),
        |keys| keys.directory.expose_bytes(),
        |_| (),
    );
}

/// A copy on the heap that nobody wipes is found, so that the search can fail.
#[test]
fn a_copy_that_was_left_is_found() {
    let _alone = ONE_SEARCHES.lock().unwrap();
    let seed = RootSeed::random(&mut rng(0x33));
    let masked = Masked::of(seed.expose_bytes());
    let copy = Box::new(*seed.expose_bytes());
    drop(seed);
    assert_eq!(places(&masked), [std::ptr::from_ref(&*copy) as usize]);
    std::hint::black_box(&copy);
}
