//! The code that a patient says to a doctor: eight characters that stand for the inbox for some minutes.

use std::fmt;

use rand_core::Rng;
use thiserror::Error;

use crate::base32;

/// Characters of a code: 40 bits, enough for minutes at a service that counts who guesses.
const CHARACTERS: usize = 8;

/// What was typed is no short code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no short code: it has eight letters and digits in two groups")]
pub struct NotShort;

/// A code of eight characters of Crockford's base 32, written in two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortCode([u8; CHARACTERS]);

impl ShortCode {
    /// A fresh one.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut code = [0; CHARACTERS];
        base32::draw(&mut code, rng);
        Self(code)
    }

    /// As it was typed or heard: hyphens and spaces are left out, O is 0, I and L are 1.
    ///
    /// # Errors
    /// [`NotShort`].
    pub fn parse(text: &str) -> Result<Self, NotShort> {
        let mut code = [0; CHARACTERS];
        base32::read(text, &mut code).ok_or(NotShort)?;
        Ok(Self(code))
    }
}

impl fmt::Display for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::str::from_utf8(&self.0).map_err(|_| fmt::Error)?;
        let (first, second) = text.split_at(base32::GROUP);
        write!(f, "{first}-{second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_say_and_type_it() {
        let code = ShortCode::parse("K7Q0-3X91").unwrap();
        assert_eq!(code.to_string(), "K7Q0-3X91");
        for typed in ["k7qo3x9l", " K7Q0 3X9I ", "k7-q0-3x-91"] {
            assert_eq!(ShortCode::parse(typed), Ok(code));
        }
        for wrong in ["", "K7Q0-3X9", "K7Q0-3X911", "K7Q0-3X9U", "K7Q0-3X9\u{e9}"] {
            assert_eq!(ShortCode::parse(wrong), Err(NotShort), "{wrong}");
        }
        let fresh = ShortCode::random(&mut crate::SystemRandom);
        assert_eq!(ShortCode::parse(&fresh.to_string()), Ok(fresh));
        assert_ne!(fresh, ShortCode::random(&mut crate::SystemRandom));
    }
}
