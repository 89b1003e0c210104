//! The keys of what was delivered, so that a source that gives it again is told so.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::intake::delivery::{DeliveryId, DeliveryKey};
use crate::intake::files;

/// Keys that are remembered: a hospital of 1,000 beds sends about 30,000 messages a day, so two days of
/// them. Senders repeat within minutes. In memory a key takes about 200 bytes with its receipt: 13 MiB.
const KEYS_MAX: usize = 65_536;
/// Lines of the file before it is written anew: twice as many, so that this happens once in
/// [`KEYS_MAX`] deliveries. A line has at most 64 + 32 + 128 + 3 bytes: 30 MiB.
const LINES_MAX: usize = 2 * KEYS_MAX;
/// The longest line, with room to tell that one is longer.
const LINE_BYTES_MAX: u64 = 64 + 32 + RECEIPT_BYTES_MAX as u64 + 3 + 1;
/// The longest receipt that is kept: two hashes in hexadecimal.
const RECEIPT_BYTES_MAX: usize = 128;

/// The last keys, in memory and in a file to which lines are appended.
pub(super) struct Done {
    path: PathBuf,
    file: File,
    lines: usize,
    kept: HashMap<DeliveryKey, (DeliveryId, String)>,
    order: VecDeque<DeliveryKey>,
}

impl Done {
    /// Reads the file, or begins one. A line that a stop of the process left half written is dropped:
    /// its delivery is still waiting.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut done = Self {
            path: path.to_owned(),
            file: append(path)?,
            lines: 0,
            kept: HashMap::new(),
            order: VecDeque::new(),
        };
        let mut whole = true;
        let mut reader = BufReader::new(File::open(path)?);
        loop {
            let mut line = Vec::new();
            let count = reader
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            if count == 0 {
                break;
            }
            match parse(&line) {
                Some((key, id, receipt)) => {
                    done.lines += 1;
                    done.remember(key, id, receipt);
                }
                None => whole = false,
            }
        }
        if !whole || done.lines > KEYS_MAX {
            done.write_anew()?;
        }
        Ok(done)
    }

    /// Remembers a delivery durably.
    pub(super) fn add(
        &mut self,
        key: DeliveryKey,
        id: DeliveryId,
        receipt: &str,
    ) -> io::Result<()> {
        let plain = !receipt.is_empty()
            && receipt.len() <= RECEIPT_BYTES_MAX
            && receipt.bytes().all(|byte| byte.is_ascii_graphic());
        let receipt = if plain { receipt } else { "-" };
        let length = self.file.metadata()?.len();
        let written = self
            .file
            .write_all(line(&key, id, receipt).as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A half line would take the next one with it.
            self.file.set_len(length)?;
            self.file.sync_data()?;
            return Err(error);
        }
        self.lines += 1;
        self.remember(key, id, receipt.to_owned());
        if self.lines > LINES_MAX {
            self.write_anew()?;
        }
        Ok(())
    }

    /// Under which id the key was delivered.
    pub(super) fn find(&self, key: &DeliveryKey) -> Option<DeliveryId> {
        self.kept.get(key).map(|(id, _)| *id)
    }

    /// What the destination said of it. Looks through all.
    pub(super) fn receipt(&self, id: DeliveryId) -> Option<&str> {
        let mut all = self.kept.values();
        all.find(|(other, _)| *other == id)
            .map(|(_, receipt)| receipt.as_str())
    }

    /// The latest moment of which an id was made.
    pub(super) fn last_moment(&self) -> u64 {
        let moments = self.kept.values().map(|(id, _)| id.moment());
        moments.max().unwrap_or(0)
    }

    fn remember(&mut self, key: DeliveryKey, id: DeliveryId, receipt: String) {
        if self.kept.insert(key, (id, receipt)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let mut text = String::new();
        for key in &self.order {
            if let Some((id, receipt)) = self.kept.get(key) {
                text.push_str(&line(key, *id, receipt));
            }
        }
        files::replace(&self.path, text.as_bytes())?;
        self.file = append(&self.path)?;
        self.lines = self.order.len();
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn line(key: &DeliveryKey, id: DeliveryId, receipt: &str) -> String {
    format!("{key} {id} {receipt}\n")
}

fn parse(line: &[u8]) -> Option<(DeliveryKey, DeliveryId, String)> {
    let line = str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let mut parts = line.split(' ');
    let key = DeliveryKey::try_from(parts.next()?.to_owned()).ok()?;
    let id = parts.next()?.parse().ok()?;
    let receipt = parts.next()?.to_owned();
    parts.next().is_none().then_some((key, id, receipt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::delivery::Source;

    fn key(number: u64) -> DeliveryKey {
        DeliveryKey::of(Source::Mllp, &[&number.to_be_bytes()])
    }

    #[test]
    fn what_was_done_is_remembered_and_a_half_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done.log");
        let mut done = Done::open(&path).unwrap();
        done.add(key(1), DeliveryId::new(1, 0), "record").unwrap();
        done.add(key(2), DeliveryId::new(2, 0), "with a space")
            .unwrap();
        drop(done);
        let whole = std::fs::read(&path).unwrap();
        let third = line(&key(3), DeliveryId::new(3, 0), "r");
        // Wherever the third line was cut, the first two stand, and what follows is readable.
        for cut in 0..third.len() {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&third.as_bytes()[..cut]);
            std::fs::write(&path, bytes).unwrap();
            let mut done = Done::open(&path).unwrap();
            assert_eq!(done.find(&key(1)), Some(DeliveryId::new(1, 0)));
            assert_eq!(done.receipt(DeliveryId::new(1, 0)), Some("record"));
            assert_eq!(done.receipt(DeliveryId::new(2, 0)), Some("-"));
            assert_eq!(done.find(&key(3)), None, "cut at {cut}");
            assert_eq!(done.last_moment(), 2);
            done.add(key(4), DeliveryId::new(4, 0), "r").unwrap();
            let done = Done::open(&path).unwrap();
            assert_eq!(
                done.find(&key(4)),
                Some(DeliveryId::new(4, 0)),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn the_oldest_keys_are_forgotten_and_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("done.log");
        let lines = KEYS_MAX as u64 + 10;
        let text: String = (0..lines)
            .map(|number| line(&key(number), DeliveryId::new(number, 0), "-"))
            .collect();
        std::fs::write(&path, text).unwrap();
        let done = Done::open(&path).unwrap();
        assert_eq!(done.find(&key(9)), None);
        assert_eq!(done.find(&key(10)), Some(DeliveryId::new(10, 0)));
        assert_eq!(done.lines, KEYS_MAX);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert_eq!(lines, KEYS_MAX);
    }
}
