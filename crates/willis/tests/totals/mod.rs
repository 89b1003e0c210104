//! What campaigns count, added up over days in `docs/measured/faults.json`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

/// Adds numbers to those that stand in the file under a campaign's name and this path within; everything else
/// stays as it is. The file is exchanged whole, so that a campaign which is killed leaves the totals of before.
pub fn add(file: &Path, path: &[&str], counts: &[(&str, u64)]) {
    // The tests of one file run side by side.
    static ONE_WRITES: Mutex<()> = Mutex::new(());
    let _alone = ONE_WRITES.lock().unwrap();
    let mut all: Value = match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(_) => json!({}),
    };
    let mut own = &mut all;
    for part in path {
        own = &mut own[*part];
    }
    for (what, count) in counts {
        let before = own[*what].as_u64().unwrap_or(0);
        own[*what] = json!(before + count);
    }
    let mut text = serde_json::to_string_pretty(&all).unwrap();
    text.push('\n');
    let next = file.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, file).unwrap();
}
