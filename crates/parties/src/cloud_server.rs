//! The cloud server (the paper's 3.1 (5); interaction 3).
//!
//! - Holds: containers under random addresses; its receipt key.
//! - Sees: ciphertext, its size, when it is stored and fetched, and what is fetched together.
//! - Does: gives each container an address that tells nothing of it, and signs a receipt.
//! - Must not learn: whose container it is, or anything in it.
//! - Trusts: nobody, and is not trusted: a container's digest stands on the chain.
//!
//! Where the bytes lie is the service's business; this is what the cloud decides and signs.

use rand_core::CryptoRng;
use scheme::{
    Address, BadSignature, ConsortiumId, Context, DecodeError, Decoder, Digest, Encoder, Signature,
    SigningKey, Timestamp, VerifyingKey,
};
use thiserror::Error;

/// The cloud's word that it stored a container (`spec/formats.md`, M8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageReceipt {
    /// Where.
    pub address: Address,
    /// SHA-256 of what was stored, as the cloud computed it.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
    /// When.
    pub time: Timestamp,
    /// By the cloud's receipt key.
    pub signature: Signature,
}

/// The cloud stored something else than was sent. Send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the cloud stored {stored} bytes with digest {found}, and {sent} bytes with digest {expected} were sent: store the record again"
)]
pub struct StoredOtherwise {
    /// Bytes that the receipt names.
    pub stored: u64,
    /// The digest that it names.
    pub found: Digest,
    /// Bytes that were sent.
    pub sent: u64,
    /// Their digest.
    pub expected: Digest,
}

/// The cloud server's key.
pub struct CloudServer {
    consortium: ConsortiumId,
    key: SigningKey,
}

impl CloudServer {
    /// A cloud with its receipt key.
    pub fn new(consortium: ConsortiumId, key: SigningKey) -> Self {
        Self { consortium, key }
    }

    /// The key that receipts are checked with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// A fresh address: random, never derived from content, whose digest stands on the chain.
    pub fn assign_address(&self, rng: &mut impl CryptoRng) -> Address {
        let mut address = [0; 32];
        rng.fill_bytes(&mut address);
        Address::new(address)
    }

    /// Signs that the container lies at its address, durably.
    pub fn receipt(
        &self,
        address: Address,
        digest: Digest,
        length: u64,
        time: Timestamp,
    ) -> StorageReceipt {
        let signature = with_parts(&address, &digest, length, time, |parts| {
            self.key.sign(Context::Receipt, &self.consortium, parts)
        });
        StorageReceipt {
            address,
            digest,
            length,
            time,
            signature,
        }
    }
}

impl StorageReceipt {
    /// Bytes of the encoding: address 32, digest 32, length 8, time 8, signature 64.
    pub const BYTES: usize = 144;

    /// Checks the cloud's signature and that it stored what was sent.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        cloud: &VerifyingKey,
        digest: Digest,
        length: u64,
    ) -> Result<(), ReceiptError> {
        with_parts(
            &self.address,
            &self.digest,
            self.length,
            self.time,
            |parts| cloud.verify(Context::Receipt, consortium, parts, &self.signature),
        )?;
        if self.digest != digest || self.length != length {
            return Err(ReceiptError::Otherwise(StoredOtherwise {
                stored: self.length,
                found: self.digest,
                sent: length,
                expected: digest,
            }));
        }
        Ok(())
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.address.as_bytes())
            .bytes(self.digest.as_bytes())
            .u64(self.length)
            .u64(self.time.number())
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Decodes a receipt.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the storage receipt";
        let mut from = Decoder::new(bytes);
        let receipt = Self {
            address: Address::new(from.array(WHAT)?),
            digest: Digest::new(from.array(WHAT)?),
            length: from.u64(WHAT)?,
            time: Timestamp::new(from.u64(WHAT)?),
            signature: Signature::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(receipt)
    }
}

/// Why a storage receipt is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The cloud did not sign it.
    #[error("the storage receipt is not signed by the cloud")]
    Forged(#[from] BadSignature),
    /// The cloud stored something else.
    #[error(transparent)]
    Otherwise(StoredOtherwise),
}

fn with_parts<T>(
    address: &Address,
    digest: &Digest,
    length: u64,
    time: Timestamp,
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    then(&[
        b"storage",
        address.as_bytes(),
        digest.as_bytes(),
        &length.to_be_bytes(),
        &time.number().to_be_bytes(),
    ])
}
