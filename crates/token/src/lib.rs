//! An institution's key in a PKCS#11 token: a hardware security module, a smart card, or SoftHSM 2
//! (decision 0021).
//!
//! Which key is meant is said by a URI of RFC 7512 ([`KeyUri`]); [`Token`] signs under it by
//! CKM_EDDSA and implements [`scheme::Signer`]. The private key never leaves the token. The token's
//! module is a shared library that is loaded when a token is opened; nothing is linked against one.
//!
//! What it never knows: files and their permissions (the PIN is asked of the caller each time it is
//! needed, and not kept), contexts and transactions, the runtime. A call blocks for as long as the
//! token takes.
//!
//! ```
//! use token::KeyUri;
//!
//! let uri = "pkcs11:token=hospital%20of%20Linz;object=institution\
//!            ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=institution.pin";
//! let uri: KeyUri = uri.parse()?;
//! assert_eq!(uri.pin_source().to_str(), Some("institution.pin"));
//! assert_eq!(uri.to_string(), "key \"institution\" in the token \"hospital of Linz\"");
//! # Ok::<(), token::UriError>(())
//! ```

mod error;
mod pkcs11;
mod point;
mod uri;

pub use error::TokenError;
pub use pkcs11::Token;
pub use uri::{KeyUri, SCHEME, URI_BYTES_MAX, UriError};
