//! A process's resident memory, as Linux tells it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "without the figure nothing can be tested"
)]

/// What is resident now, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// The most that ever was, in bytes.
pub(crate) fn peak_bytes() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1024
}
