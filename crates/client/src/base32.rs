//! Codes that people say, write and type: Crockford's base 32, in groups of four.

use rand_core::Rng;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of one group.
pub(crate) const GROUP: usize = 4;

/// Fills a code with random characters.
pub(crate) fn draw(code: &mut [u8], rng: &mut impl Rng) {
    rng.fill_bytes(code);
    for character in code {
        // 256 is a multiple of 32, so each character is as likely as any other.
        *character = ALPHABET[usize::from(*character % 32)];
    }
}

/// Reads a code as it was typed: hyphens and spaces are left out, O is 0, I and L are 1. `None` unless it has
/// exactly as many characters.
pub(crate) fn read(text: &str, code: &mut [u8]) -> Option<()> {
    let mut count = 0;
    for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
        let byte = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            byte => byte,
        };
        if !ALPHABET.contains(&byte) {
            return None;
        }
        *code.get_mut(count)? = byte;
        count += 1;
    }
    (count == code.len()).then_some(())
}
