//! The two candidates for a node's storage side by side: tags are random keys, written once in blocks
//! that are synced each, then looked up by exact key. `docs/decisions/0001-storage-of-a-node.md`
//! says what came out. Repeat with
//! `cargo bench -p willis-chain --bench storage -- [tags] [tags per block]`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU64, NonZeroUsize},
    path::Path,
    time::{Duration, Instant},
};

use chain::{Commit, FjallStore, Store, Tip};
use commonware_cryptography::sha256::Digest;
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, tokio};
use commonware_storage::archive::{Archive as _, Identifier, immutable};
use ledger::{BlockId, Changes, Height, StateRoot};
use scheme::{Timestamp, sha256};

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u64>().ok());
    let tags = numbers.next().unwrap_or(200_000);
    let block = numbers.next().unwrap_or(1_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{tags} tags of 32 bytes with 32 bytes each, {block} a block, a sync per block");
    let fjall = fjall(&folder.path().join("fjall"), tags, block);
    fjall.tell("fjall behind the trait");
    let archive = archive(&folder.path().join("archive"), tags, block);
    archive.tell("the engine's immutable archive");
    println!(
        "archive / fjall: writing {:.2}, slowest block {:.2}, looking up {:.2}, bytes {:.2}",
        archive.writing.as_secs_f64() / fjall.writing.as_secs_f64(),
        archive.slowest.as_secs_f64() / fjall.slowest.as_secs_f64(),
        archive.looking.as_secs_f64() / fjall.looking.as_secs_f64(),
        archive.bytes as f64 / fjall.bytes as f64,
    );
}

struct Figures {
    tags: u64,
    writing: Duration,
    slowest: Duration,
    looking: Duration,
    bytes: u64,
}

impl Figures {
    fn tell(&self, name: &str) {
        println!(
            "{name}: {:.0} tags/s written, slowest block {:.1} ms, {:.1} us a look-up, {:.0} bytes a tag",
            self.tags as f64 / self.writing.as_secs_f64(),
            self.slowest.as_secs_f64() * 1e3,
            self.looking.as_secs_f64() * 1e6 / LOOKUPS as f64,
            self.bytes as f64 / self.tags as f64,
        );
    }
}

fn tag(number: u64) -> [u8; 32] {
    *sha256(&number.to_be_bytes()).as_bytes()
}

/// Every other look-up asks for a tag that was never written, as a search's last ones do.
fn asked(number: u64, tags: u64) -> u64 {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % tags;
    if number.is_multiple_of(2) {
        spread
    } else {
        spread + tags
    }
}

fn fjall(folder: &Path, tags: u64, block: u64) -> Figures {
    std::fs::create_dir_all(folder).expect("writable");
    let store = FjallStore::open(folder).expect("a folder of its own");
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for height in 0..tags.div_ceil(block) {
        let mut changes = Changes::new();
        for number in height * block..((height + 1) * block).min(tags) {
            changes.put(tag(number).to_vec(), tag(!number).to_vec());
        }
        let tip = Tip {
            height: Height::new(height),
            block: BlockId::new(tag(height)),
            state_root: StateRoot::new([0; 32]),
            time: Timestamp::new(height),
            led: BTreeMap::new(),
        };
        let at = Instant::now();
        let commit = Commit {
            tip: &tip,
            block: &[],
            certificate: None,
            transactions: &[],
            changes: &changes,
        };
        store.commit(commit).expect("the disk works");
        slowest = slowest.max(at.elapsed());
    }
    let writing = begun.elapsed();
    let view = store.view().expect("readable").expect("there are blocks");
    let begun = Instant::now();
    for number in 0..LOOKUPS {
        let number = asked(number, tags);
        assert_eq!(
            view.get(&tag(number)).expect("readable").is_some(),
            number < tags
        );
    }
    let looking = begun.elapsed();
    Figures {
        tags,
        writing,
        slowest,
        looking,
        bytes: size(folder),
    }
}

fn archive(folder: &Path, tags: u64, block: u64) -> Figures {
    std::fs::create_dir_all(folder).expect("writable");
    let runtime = tokio::Config::default().with_storage_directory(folder);
    let (writing, slowest, looking) = tokio::Runner::new(runtime).start(|context| async move {
        let page_cache = CacheRef::new(PAGE, PAGES);
        let name = |part: &str| format!("tags-{part}");
        let config = immutable::Config {
            metadata_partition: name("metadata"),
            freezer_table_partition: name("table"),
            freezer_table_initial_size: 1 << 16,
            freezer_table_resize_frequency: 4,
            freezer_table_resize_chunk_size: 1 << 14,
            freezer_key_partition: name("keys"),
            freezer_key_page_cache: page_cache,
            freezer_key_write_buffer: BUFFER,
            freezer_value_partition: name("values"),
            freezer_value_write_buffer: BUFFER,
            freezer_value_target_size: 256 << 20,
            freezer_value_compression: None,
            ordinal_partition: name("ordinal"),
            ordinal_write_buffer: BUFFER,
            items_per_section: SECTION,
            codec_config: (),
            replay_buffer: BUFFER,
        };
        let mut archive =
            immutable::Archive::<_, Digest, Digest>::init(context.child("tags"), config)
                .await
                .expect("a folder of its own");
        let mut slowest = Duration::ZERO;
        let begun = Instant::now();
        for height in 0..tags.div_ceil(block) {
            let at = Instant::now();
            for number in height * block..((height + 1) * block).min(tags) {
                let value = Digest(tag(!number));
                archive = archive
                    .put(number, Digest(tag(number)), &value)
                    .await
                    .expect("writable");
            }
            archive = archive.sync().await.expect("the disk works");
            slowest = slowest.max(at.elapsed());
        }
        let writing = begun.elapsed();
        let begun = Instant::now();
        for number in 0..LOOKUPS {
            let number = asked(number, tags);
            let key = Digest(tag(number));
            let found = archive.get(Identifier::Key(&key)).await.expect("readable");
            assert_eq!(found.is_some(), number < tags);
        }
        (writing, slowest, begun.elapsed())
    });
    Figures {
        tags,
        writing,
        slowest,
        looking,
        bytes: size(folder),
    }
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("readable");
    entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let metadata = entry.metadata().expect("readable");
            if metadata.is_dir() {
                size(&entry.path())
            } else {
                metadata.len()
            }
        })
        .sum()
}

const LOOKUPS: u64 = 20_000;
const PAGE: NonZeroU16 = NonZeroU16::new(4_084).expect("not 0");
const PAGES: NonZeroUsize = NonZeroUsize::new(8_192).expect("not 0");
const BUFFER: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("not 0");
const SECTION: NonZeroU64 = NonZeroU64::new(16_384).expect("not 0");
