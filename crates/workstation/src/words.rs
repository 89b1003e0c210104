//! A patient's root seed as 24 words (BIP-39, English list), to be written down.

use bip39::Mnemonic;
use scheme::RootSeed;
use thiserror::Error;
use zeroize::Zeroizing;

/// The words are no backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("these are not the 24 words of a backup: check each word and their order")]
pub struct WrongWords;

/// The seed's words, separated by spaces.
pub fn to_words(seed: &RootSeed) -> Zeroizing<String> {
    let mnemonic = Mnemonic::from_entropy(seed.expose_bytes())
        .expect("32 bytes are one of the lengths that have words");
    Zeroizing::new(mnemonic.to_string())
}

/// The seed of 24 words; case and spacing do not matter.
///
/// # Errors
/// [`WrongWords`] if a word is none of the list's, one is missing, or the checksum differs.
pub fn from_words(words: &str) -> Result<RootSeed, WrongWords> {
    let words = Zeroizing::new(
        words
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase(),
    );
    let mnemonic: Mnemonic = words.parse().map_err(|_| WrongWords)?;
    let entropy = Zeroizing::new(mnemonic.to_entropy());
    let bytes = <[u8; 32]>::try_from(entropy.as_slice()).map_err(|_| WrongWords)?;
    Ok(RootSeed::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_bring_the_seed_back_and_a_wrong_one_does_not() {
        let seed = RootSeed::from_bytes([7; 32]);
        let words = to_words(&seed);
        assert_eq!(words.split(' ').count(), 24);
        let typed = format!("  {} \n", words.to_uppercase().replace(' ', "   "));
        assert_eq!(
            from_words(&typed).unwrap().expose_bytes(),
            seed.expose_bytes()
        );
        let last = words.rsplit(' ').next().unwrap();
        let other = if last == "zoo" { "able" } else { "zoo" };
        let wrong = words.replace(last, other);
        assert_eq!(from_words(&wrong).err(), Some(WrongWords));
        let short = words.split(' ').take(12).collect::<Vec<_>>().join(" ");
        assert_eq!(from_words(&short).err(), Some(WrongWords));
    }

    /// The published vector of BIP-39 for 32 bytes of 0x7f.
    #[test]
    fn the_words_are_those_of_the_standard() {
        let words = to_words(&RootSeed::from_bytes([0x7f; 32]));
        let expected = "legal winner thank year wave sausage worth useful \
                        legal winner thank year wave sausage worth useful \
                        legal winner thank year wave sausage worth title";
        assert_eq!(words.as_str(), expected);
    }
}
