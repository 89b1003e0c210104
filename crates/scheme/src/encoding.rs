//! Byte encodings of `spec/scheme.md` section 1: the injective `enc` that every hash input and
//! every signed text goes through, and the bounded reader and writer of the fixed layouts.

use thiserror::Error;

/// Why bytes could not be decoded. The caller drops the value and names `what` to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the layout needs.
    #[error("{what} is cut short: {needed} more bytes were expected, {left} are left")]
    Truncated {
        /// The field that was being read.
        what: &'static str,
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that were left.
        left: usize,
    },
    /// Bytes follow the end of the value.
    #[error("{left} bytes follow the end of {what}")]
    Trailing {
        /// The value that was read.
        what: &'static str,
        /// Bytes that are left over.
        left: usize,
    },
    /// A length or count is above its limit.
    #[error("{what} is {found}, the limit is {limit}")]
    TooLarge {
        /// The field that was being read.
        what: &'static str,
        /// The length or count found.
        found: u64,
        /// The largest one allowed.
        limit: u64,
    },
    /// The bytes have the right length and no valid meaning.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The field that was being read.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// `enc(x1, ..., xn)`: each part as a u32 big-endian length and its bytes (eq. E1). Injective, so
/// that two different lists of parts never give one hash input or one signed text.
///
/// # Panics
/// If a part is 4 GiB or longer, which no caller can reach: every part is a bounded field.
pub fn enc(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        let len = u32::try_from(part.len()).expect("parts are bounded fields below 4 GiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Appends fixed-layout fields to a byte string. All integers are big-endian.
#[derive(Debug, Default, Clone)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty byte string.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a layout that holds secrets and is `length` bytes long: the buffer has that room from the
    /// beginning, since one that grows leaves copies behind that nobody wipes.
    pub fn of_secrets(length: usize) -> Self {
        Self {
            out: Vec::with_capacity(length),
        }
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends bytes whose length the layout fixes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(value);
        self
    }

    /// Appends a u32 length and the bytes.
    ///
    /// # Panics
    /// If the value is 4 GiB or longer; callers hold bounded fields.
    pub fn var(&mut self, value: &[u8]) -> &mut Self {
        let len = u32::try_from(value.len()).expect("variable fields are bounded below 4 GiB");
        self.u32(len).bytes(value)
    }

    /// The bytes written so far.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

/// Reads fixed-layout fields of untrusted bytes. It never reads past the end and never allocates
/// more than the bytes it was given.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn bytes(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            let left = self.rest.len();
            return Err(DecodeError::Truncated {
                what,
                needed: len,
                left,
            });
        };
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let head = self.bytes(what, N)?;
        let mut out = [0; N];
        out.copy_from_slice(head);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// A u32 length, at most `max`, and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above `max`, [`DecodeError::Truncated`] if fewer are left.
    pub fn var(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.count(what, max)?;
        self.bytes(what, len)
    }

    /// A u32 count, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above `max`, [`DecodeError::Truncated`] at the end.
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let found = self.u32(what)?;
        let limit = max as u64;
        if u64::from(found) > limit {
            return Err(DecodeError::TooLarge {
                what,
                found: u64::from(found),
                limit,
            });
        }
        Ok(found as usize)
    }

    /// A u8 count, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above `max`, [`DecodeError::Truncated`] at the end.
    pub fn count_u8(&mut self, what: &'static str, max: usize) -> Result<usize, DecodeError> {
        let found = usize::from(self.u8(what)?);
        if found > max {
            return Err(DecodeError::TooLarge {
                what,
                found: found as u64,
                limit: max as u64,
            });
        }
        Ok(found)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if bytes are left.
    pub fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::Trailing {
            what,
            left: self.rest.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn enc_is_pinned() {
        assert_eq!(
            hex::encode(enc(&[b"ab", b"", &7u64.to_be_bytes()])),
            "00000002616200000000000000080000000000000007"
        );
    }

    proptest! {
        #[test]
        fn enc_is_injective(a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..4),
                            b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..4)) {
            let ra: Vec<&[u8]> = a.iter().map(Vec::as_slice).collect();
            let rb: Vec<&[u8]> = b.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(enc(&ra) == enc(&rb), a == b);
        }

        #[test]
        fn decoder_never_reads_past_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..40), max in 0usize..64) {
            let mut decoder = Decoder::new(&bytes);
            while let Ok(part) = decoder.var("part", max) {
                prop_assert!(part.len() <= max);
            }
        }
    }
}
