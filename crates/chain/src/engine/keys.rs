//! A node's one key under its two names: the scheme's Ed25519 types and the engine's.
//!
//! The key signs the ledger's texts (block, receipt, reply) and the engine's (votes, handshakes).
//! No text of one is a text of the other: the ledger's begin with a u32 big-endian length below
//! 2^24, so with a zero byte; the engine's begin with the length of a namespace that is never
//! empty, as a varint, so with a byte that is not zero.

use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::ed25519;
use scheme::{SigningKey, VerifyingKey};

use super::PublicKey;

/// The engine's form of a node's private key.
pub(crate) fn private(key: &SigningKey) -> ed25519::PrivateKey {
    ed25519::PrivateKey::decode(Copying(key.expose_seed()))
        .expect("32 bytes are always a private key of RFC 8032")
}

/// The engine's form of a node's public key; `None` if the bytes are no point of the curve.
pub(crate) fn public(key: &VerifyingKey) -> Option<PublicKey> {
    PublicKey::decode(Copying(key.as_bytes())).ok()
}

/// The scheme's form of a node's public key.
pub(crate) fn verifying(key: &PublicKey) -> VerifyingKey {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&key.encode());
    VerifyingKey::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_cryptography::Signer as _;

    #[test]
    fn both_names_mean_one_key() {
        let key = SigningKey::from_seed([7; 32]);
        let engine = private(&key);
        assert_eq!(verifying(&engine.public_key()), key.verifying_key());
        assert_eq!(public(&key.verifying_key()), Some(engine.public_key()));
    }
}
