//! An input read from its front, and what holds of every decoder.

/// Bytes of an input that are still to be read. Past its end there are zeros, so that every input means
/// something.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// A number below `bound`, which is at most 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound.max(1)
    }

    /// As many bytes, or all that are left.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let length = length.min(self.0.len());
        let (taken, left) = self.0.split_at(length);
        self.0 = left;
        taken
    }

    /// Bytes behind their length in one byte.
    pub(crate) fn short(&mut self) -> &'a [u8] {
        let length = usize::from(self.u8());
        self.take(length)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// A decoder followed by its encoder; none if the bytes are refused.
pub(crate) type Again = fn(&[u8]) -> Option<Vec<u8>>;

/// Nothing has two encodings, and what is refused once is refused always.
pub(crate) fn one_encoding(name: &str, again: impl Fn(&[u8]) -> Option<Vec<u8>>, bytes: &[u8]) {
    match again(bytes) {
        Some(encoded) => assert!(encoded == bytes, "{name} has a second encoding"),
        None => assert!(again(bytes).is_none(), "{name} was refused before"),
    }
}

/// The first byte says which format the others are in.
pub(crate) fn by_first_byte(formats: &[(&str, Again)], bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (name, again) = formats[input.below(formats.len())];
    one_encoding(name, again, input.rest());
}

/// An input of [`by_first_byte`].
///
/// # Panics
/// If no format is called so, or the example is none of it.
pub(crate) fn seed(formats: &[(&str, Again)], name: &str, example: &[u8]) -> Vec<u8> {
    let found = formats.iter().position(|(format, _)| *format == name);
    let place = found.expect("one of the formats");
    let again = formats[place].1(example);
    assert!(again.as_deref() == Some(example), "{name}: a bad example");
    [&[place as u8], example].concat()
}
