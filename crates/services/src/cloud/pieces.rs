//! A container as pieces of one MiB with a digest each, so that any range of it is checked before it is
//! given out.

use std::ops::Range;
use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use client::ProblemKind;
use scheme::{Address, Digest, DigestStream, sha256};

use super::CloudService;
use super::store::CloudError;
use crate::http::Refused;

/// Bytes of a piece. A container of 16 GiB has 16,384 of them, with 512 KiB of digests.
pub(super) const PIECE_BYTES: usize = 1024 * 1024;

/// The digests of a container as its bytes come by.
pub(super) struct Pieces {
    whole: DigestStream,
    piece: DigestStream,
    filled: usize,
    digests: Vec<u8>,
}

impl Pieces {
    pub(super) fn new() -> Self {
        Self {
            whole: DigestStream::new(),
            piece: DigestStream::new(),
            filled: 0,
            digests: Vec::new(),
        }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let (head, tail) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.filled));
            self.piece.update(head);
            self.filled += head.len();
            bytes = tail;
            if self.filled == PIECE_BYTES {
                self.end_piece();
            }
        }
    }

    /// The digest of all bytes, and those of the pieces one behind the other.
    pub(super) fn finish(mut self) -> (Digest, Vec<u8>) {
        if self.filled > 0 {
            self.end_piece();
        }
        (self.whole.finish(), self.digests)
    }

    fn end_piece(&mut self) {
        let piece = std::mem::replace(&mut self.piece, DigestStream::new());
        self.digests.extend_from_slice(piece.finish().as_bytes());
        self.filled = 0;
    }
}

/// Reads a range of a container piece by piece; a piece that is not what was stored ends it.
pub(super) struct Reader {
    service: Arc<CloudService>,
    address: Address,
    length: u64,
    digests: Vec<u8>,
    range: Range<u64>,
}

impl Reader {
    pub(super) fn new(
        service: Arc<CloudService>,
        address: Address,
        length: u64,
        digests: Vec<u8>,
        range: Range<u64>,
    ) -> Self {
        Self {
            service,
            address,
            length,
            digests,
            range,
        }
    }

    /// The next bytes of the range, `None` after its last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CloudError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let size = PIECE_BYTES as u64;
        let number = self.range.start / size;
        let piece = number * size..((number + 1) * size).min(self.length);
        let found = match self.service.store.part(self.address, piece.clone()).await {
            // Cut short, the store has no such range.
            Err(CloudError::Store(_)) => {
                let container = self.service.container(self.address.as_bytes()).await;
                match container {
                    Ok(Some(container)) => {
                        self.service.check(&container).await?;
                        return Err(CloudError::Altered);
                    }
                    _ => return Err(CloudError::NotFound),
                }
            }
            Err(CloudError::NotFound) => {
                self.service.damaged(&self.address, true).await;
                return Err(CloudError::NotFound);
            }
            other => other?,
        };
        let at = usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_mul(32);
        let expected = self.digests.get(at..at.saturating_add(32));
        if expected != Some(sha256(&found).as_bytes().as_slice()) {
            self.service.damaged(&self.address, false).await;
            return Err(CloudError::Altered);
        }
        let from = usize::try_from(self.range.start - piece.start).unwrap_or(PIECE_BYTES);
        let until =
            usize::try_from(self.range.end.min(piece.end) - piece.start).unwrap_or_default();
        self.range.start = piece.end.min(self.range.end);
        Ok(Some(found.slice(from..until)))
    }
}

/// The one range that a header asks for; all of it without one. Several ranges, or one of another unit,
/// are answered with the whole, as RFC 9110 allows.
pub(super) fn range(header: Option<&HeaderValue>, length: u64) -> Result<Range<u64>, Refused> {
    let text = header.and_then(|header| header.to_str().ok());
    let Some((first, last)) = text
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Ok(0..length);
    };
    let Ok(first) = first.parse::<u64>() else {
        return Ok(0..length);
    };
    let end = match last {
        "" => length,
        last => match last.parse::<u64>() {
            Ok(last) if last >= first => length.min(last.saturating_add(1)),
            _ => return Ok(0..length),
        },
    };
    if first >= length {
        return Err(Refused::new(
            ProblemKind::Range,
            format!("the container has {length} bytes, and the range begins behind them"),
        ));
    }
    Ok(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_has_its_digest() {
        let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let mut pieces = Pieces::new();
        for part in bytes.chunks(77_777) {
            pieces.update(part);
        }
        let (digest, digests) = pieces.finish();
        assert_eq!(digest, sha256(&bytes));
        let expected: Vec<u8> = bytes
            .chunks(PIECE_BYTES)
            .flat_map(|piece| *sha256(piece).as_bytes())
            .collect();
        assert_eq!(digests, expected);
    }

    #[test]
    fn one_range_is_understood_and_one_behind_the_end_refused() {
        let asked = |text: &'static str| range(Some(&HeaderValue::from_static(text)), 100);
        assert_eq!(range(None, 100).unwrap(), 0..100);
        assert_eq!(asked("bytes=10-19").unwrap(), 10..20);
        assert_eq!(asked("bytes=10-").unwrap(), 10..100);
        assert_eq!(asked("bytes=10-1000").unwrap(), 10..100);
        for whole in [
            "bytes=-5",
            "bytes=5-4",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=x-",
        ] {
            assert_eq!(asked(whole).unwrap(), 0..100, "{whole}");
        }
        assert!(asked("bytes=100-").is_err());
    }
}
