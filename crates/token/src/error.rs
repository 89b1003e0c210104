//! Why a token does not sign, each with what to do.

use std::path::PathBuf;

use scheme::SignerError;
use thiserror::Error;

/// Why a token does not sign.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The module is not there, or is none.
    #[error("the token's library {0} cannot be loaded: {1}; install it, or mend module-path")]
    Module(PathBuf, String),
    /// Not exactly one token is as the URI says.
    #[error("{found} tokens are as the URI says, for the {key}: {}", tokens_remedy(*found))]
    Tokens {
        /// How many.
        found: usize,
        /// The key in words.
        key: String,
    },
    /// The token cannot make pure Ed25519 signatures.
    #[error(
        "the token does not sign by Ed25519 (CKM_EDDSA), so it cannot hold an institution's key: take one that does"
    )]
    Mechanism,
    /// The PIN's source gave none.
    #[error("{0}")]
    Pin(String),
    /// The token says that the PIN is wrong.
    #[error(
        "the token refuses the PIN: write the right one to pin-source; it is not tried again before that, since a token locks itself after a few wrong ones"
    )]
    WrongPin,
    /// One wrong PIN more would lock the token.
    #[error(
        "the token locks itself at the next wrong PIN, so none was tried: check the PIN in pin-source, and log in once with the token's own program"
    )]
    LastTry,
    /// Too many wrong PINs were given.
    #[error(
        "the token has locked the PIN after too many wrong ones: unlock it as its security officer with the token's own program"
    )]
    LockedPin,
    /// The token has no PIN for a user yet, or it has expired.
    #[error("the token takes no PIN now ({0}): set its user's PIN with the token's own program")]
    NoUserPin(String),
    /// Not exactly one private key is as the URI says.
    #[error("{found} private keys are as the URI says, for the {key}: {}", keys_remedy(*found))]
    Keys {
        /// How many.
        found: usize,
        /// The key in words.
        key: String,
    },
    /// The key is of another kind.
    #[error("the {0} is no Ed25519 key: make one of the kind EC_EDWARDS on the curve edwards25519")]
    Kind(String),
    /// Not exactly one public key belongs to the private one.
    #[error(
        "{0} public keys have the id or label of the private key: the token must hold the one of its pair"
    )]
    PublicKeys(usize),
    /// CKA_EC_POINT is no key that verifies.
    #[error(
        "the public key in the token is none of Ed25519: make the pair on the curve edwards25519"
    )]
    Point,
    /// The key that the URI names is another one than when the token was opened.
    #[error(
        "the token has another key now than when it was opened: put the token with the key back, or start again with the next key"
    )]
    Changed,
    /// A signature that does not stand under the public key.
    #[error(
        "the token gave a signature that does not stand under its public key: check that both keys are of one pair"
    )]
    WrongSignature,
    /// The token has not answered for a while.
    #[error("the token has not answered for {0} s: check the device and the way to it")]
    Silent(u64),
    /// The token failed, or is away.
    #[error(
        "the token does not answer as it must ({0}): check that the device is there and reached, then try again"
    )]
    Failed(String),
}

fn tokens_remedy(found: usize) -> &'static str {
    match found {
        0 => "check that the device is there, and its label or serial number in the URI",
        _ => "say in the URI which is meant, by serial",
    }
}

fn keys_remedy(found: usize) -> &'static str {
    match found {
        0 => "check object and id in the URI, and that the key was made in this token",
        _ => "say in the URI which is meant, by id",
    }
}

impl From<TokenError> for SignerError {
    fn from(error: TokenError) -> Self {
        let text = error.to_string();
        match error {
            TokenError::WrongSignature => Self::WrongKey,
            // A device that was pulled comes back; nothing else does without somebody who mends it.
            TokenError::Failed(_)
            | TokenError::Silent(_)
            | TokenError::Module(..)
            | TokenError::Tokens { .. } => Self::Away(text),
            _ => Self::Refused(text),
        }
    }
}
