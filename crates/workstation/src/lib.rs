//! Where people's keys live: the keystore, encrypted under a passphrase, and the 24 words that bring a
//! patient's keys back.
//!
//! ```
//! let seed = scheme::RootSeed::from_bytes([7; 32]);
//! let words = workstation::to_words(&seed);
//! assert_eq!(workstation::from_words(&words).expect("just made").expose_bytes(), seed.expose_bytes());
//! ```

mod keystore;
mod words;

pub use keystore::{Keystore, KeystoreError, KeystoreKind};
pub use words::{WrongWords, from_words, to_words};
