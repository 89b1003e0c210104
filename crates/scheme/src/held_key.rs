//! A signing key wherever it is held: in this process, or by something that signs and does not give the
//! key away, as a hospital's security module does (decision 0021).

use std::sync::Arc;

use thiserror::Error;

use crate::params::ConsortiumId;
use crate::signature::{Context, Signature, SigningKey, VerifyingKey, signed_text};

/// Why nothing was signed. Nothing that was accepted before is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignerError {
    /// What holds the key does not answer now. Try again; the text says what helps if that does not.
    #[error("{0}")]
    Away(String),
    /// It answers, and does not sign: the text says what has to be mended.
    #[error("{0}")]
    Refused(String),
    /// It gave a signature that does not stand under the public key, so the signature was not used.
    #[error(
        "what holds the private key gave a signature that does not stand under the public key: check that both keys are of one pair"
    )]
    WrongKey,
}

/// Something that signs under an Ed25519 key and does not give the key away.
pub trait Signer: Send + Sync {
    /// The public key.
    fn verifying_key(&self) -> VerifyingKey;

    /// The pure Ed25519 signature (RFC 8032) of these bytes, which [`signed_text`] made. Who calls
    /// verifies it. May block the thread for as long as its device takes.
    ///
    /// # Errors
    /// [`SignerError`].
    fn sign(&self, text: &[u8]) -> Result<Signature, SignerError>;

    /// Whether it would sign now, as far as can be said without signing.
    ///
    /// # Errors
    /// [`SignerError`] as signing would give it.
    fn check(&self) -> Result<(), SignerError>;
}

/// A signing key, held here or elsewhere.
#[derive(Clone)]
pub struct HeldKey(Holder);

#[derive(Clone)]
enum Holder {
    Here(SigningKey),
    Elsewhere(Arc<dyn Signer>),
}

impl HeldKey {
    /// A key that something else holds.
    pub fn elsewhere(signer: Arc<dyn Signer>) -> Self {
        Self(Holder::Elsewhere(signer))
    }

    /// The public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        match &self.0 {
            Holder::Here(key) => key.verifying_key(),
            Holder::Elsewhere(signer) => signer.verifying_key(),
        }
    }

    /// Signs enc(context, consortium, parts). What comes from elsewhere is verified before it is used.
    ///
    /// # Errors
    /// [`SignerError`]; none if the key is held here.
    pub fn sign(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
    ) -> Result<Signature, SignerError> {
        match &self.0 {
            Holder::Here(key) => Ok(key.sign(context, consortium, parts)),
            Holder::Elsewhere(signer) => {
                let signature = signer.sign(&signed_text(context, consortium, parts))?;
                signer
                    .verifying_key()
                    .verify(context, consortium, parts, &signature)
                    .map_err(|_| SignerError::WrongKey)?;
                Ok(signature)
            }
        }
    }

    /// Whether it would sign now, as far as can be said without signing.
    ///
    /// # Errors
    /// [`SignerError`]; none if the key is held here.
    pub fn check(&self) -> Result<(), SignerError> {
        match &self.0 {
            Holder::Here(_) => Ok(()),
            Holder::Elsewhere(signer) => signer.check(),
        }
    }
}

impl From<SigningKey> for HeldKey {
    fn from(key: SigningKey) -> Self {
        Self(Holder::Here(key))
    }
}

/// What signs a transaction or a call: a [`SigningKey`], which cannot fail, or a [`HeldKey`], which can.
/// So what is signed by both kinds is written once, and who has the key itself gets no error to handle.
pub trait Sign {
    /// `T`, or `T` unless nothing was signed.
    type Outcome<T>;

    /// The public key.
    fn verifying_key(&self) -> VerifyingKey;

    /// Signs enc(context, consortium, parts), and hands the signature on.
    fn sign_then<T>(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
        then: impl FnOnce(Signature) -> T,
    ) -> Self::Outcome<T>;
}

impl Sign for SigningKey {
    type Outcome<T> = T;

    fn verifying_key(&self) -> VerifyingKey {
        self.verifying_key()
    }

    fn sign_then<T>(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
        then: impl FnOnce(Signature) -> T,
    ) -> T {
        then(self.sign(context, consortium, parts))
    }
}

impl Sign for HeldKey {
    type Outcome<T> = Result<T, SignerError>;

    fn verifying_key(&self) -> VerifyingKey {
        self.verifying_key()
    }

    fn sign_then<T>(
        &self,
        context: Context,
        consortium: &ConsortiumId,
        parts: &[&[u8]],
        then: impl FnOnce(Signature) -> T,
    ) -> Result<T, SignerError> {
        self.sign(context, consortium, parts).map(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs under one key, and says that it has another.
    struct Liar {
        signs: SigningKey,
        says: VerifyingKey,
    }

    impl Signer for Liar {
        fn verifying_key(&self) -> VerifyingKey {
            self.says
        }

        fn sign(&self, text: &[u8]) -> Result<Signature, SignerError> {
            let key = ed25519_zebra::SigningKey::from_bytes(self.signs.expose_seed());
            Ok(Signature::new(key.sign(text).to_bytes()))
        }

        fn check(&self) -> Result<(), SignerError> {
            Ok(())
        }
    }

    #[test]
    fn a_signature_from_elsewhere_is_used_only_if_it_stands() {
        let here = ConsortiumId::new([1; 32]);
        let key = SigningKey::from_seed([2; 32]);
        let from = |says| {
            let signs = key.clone();
            HeldKey::elsewhere(Arc::new(Liar { signs, says }))
        };
        let parts: [&[u8]; 2] = [b"ab", b"c"];
        let honest = from(key.verifying_key()).sign(Context::Transaction, &here, &parts);
        assert_eq!(honest, Ok(key.sign(Context::Transaction, &here, &parts)));
        let other = SigningKey::from_seed([3; 32]).verifying_key();
        let wrong = from(other).sign(Context::Transaction, &here, &parts);
        assert_eq!(wrong, Err(SignerError::WrongKey));
        let small = from(VerifyingKey::new([0; 32])).sign(Context::Transaction, &here, &parts);
        assert_eq!(small, Err(SignerError::WrongKey));
    }

    #[test]
    fn both_kinds_of_key_sign_the_same() {
        let here = ConsortiumId::new([1; 32]);
        let key = SigningKey::from_seed([2; 32]);
        let held = HeldKey::from(key.clone());
        let signed = key.sign_then(Context::Call, &here, &[b"a"], |signature| signature);
        let again = held.sign_then(Context::Call, &here, &[b"a"], |signature| signature);
        assert_eq!(again, Ok(signed));
        assert_eq!(held.verifying_key(), key.verifying_key());
        assert_eq!(held.check(), Ok(()));
    }
}
