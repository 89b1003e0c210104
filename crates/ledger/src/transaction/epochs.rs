//! Keys that end: an institution's of a writer epoch, under which its records are indexed, and a node's of
//! a validator epoch, to which grants are sealed.

use scheme::{ConsortiumId, InstitutionId, ValidatorEpoch, WriterEpoch};
use scheme::{Context, Sign, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder, HpkePublicKey};
use scheme::{WriterEpochProof, WriterEpochPublicKey};

use super::{CheckError, Kind, Signer, Text, decode_signature};

/// Begins a writer epoch: from here the institution's records are indexed under R, and its earlier
/// writer epoch has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterEpochTransaction {
    /// Whose.
    pub institution: InstitutionId,
    /// The number after the last one; the first is 0.
    pub epoch: WriterEpoch,
    /// R.
    pub key: WriterEpochPublicKey,
    /// That the institution knows y.
    pub proof: WriterEpochProof,
    /// By the institution's key.
    pub signature: Signature,
}

impl WriterEpochTransaction {
    /// The institution signs.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        institution: InstitutionId,
        epoch: WriterEpoch,
        key: WriterEpochPublicKey,
        proof: WriterEpochProof,
        signer: &K,
    ) -> K::Outcome<Self> {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            institution,
            epoch,
            key,
            proof,
            signature,
        };
        unsigned.text().sign_then(consortium, signer, |signature| {
            unsigned.signature = signature;
            unsigned
        })
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::WriterEpoch, |out| {
            self.encode_body(out);
        })
    }

    /// Level 2: that the institution knows y.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.proof
            .verify(consortium, self.institution, self.epoch, &self.key)
            .map_err(|_| CheckError::WriterEpochProof)
    }

    /// Level 3: the institution's signature, under its key in the state.
    pub(crate) fn check_institution(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Institution.failed())
    }

    fn encode_body(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .u32(self.epoch.number())
            .bytes(self.key.as_bytes())
            .bytes(&self.proof.to_bytes());
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            epoch: WriterEpoch::new(from.u32("writer epoch")?),
            key: WriterEpochPublicKey::from_bytes(&from.array("writer epoch key")?)?,
            proof: WriterEpochProof::from_bytes(&from.array("writer epoch proof")?),
            signature: decode_signature(from)?,
        })
    }
}

/// An accounting node's certificate of the HPKE key to which grants of one validator epoch seal its
/// share. It stands on the chain so that a grant, which is sealed to every accounting node, can be
/// made while one of them is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeyTransaction {
    /// Whose node.
    pub institution: InstitutionId,
    /// For which validator epoch.
    pub epoch: ValidatorEpoch,
    /// The key; never replaced within the epoch, since grants under it would be lost to the node.
    pub key: HpkePublicKey,
    /// By the node's consensus key.
    pub signature: Signature,
}

impl NodeKeyTransaction {
    /// The node signs.
    pub fn sign(
        consortium: &ConsortiumId,
        institution: InstitutionId,
        epoch: ValidatorEpoch,
        key: HpkePublicKey,
        node_key: &SigningKey,
    ) -> Self {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            institution,
            epoch,
            key,
            signature,
        };
        unsigned.signature = unsigned.text().sign(consortium, node_key);
        unsigned
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::HpkeKey, Kind::NodeKey, |out| self.encode_body(out))
    }

    /// Level 1: that something can be sealed to the key. A node whose key takes nothing would hold
    /// up every grant of the epoch.
    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        let mut u = *self.key.as_bytes();
        // X25519 does not read the top bit (RFC 7748 section 5).
        u[31] &= 0x7f;
        if SMALL_ORDER_U.contains(&u) {
            return Err(DecodeError::Invalid {
                what: "HPKE key of the node",
                why: "of small order",
            });
        }
        Ok(())
    }

    /// Level 3: the node's signature, under its key in the node set.
    pub(crate) fn check_node(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Node.failed())
    }

    fn encode_body(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .u64(self.epoch.number())
            .bytes(self.key.as_bytes());
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            epoch: ValidatorEpoch::new(from.u64("validator epoch")?),
            key: HpkePublicKey::new(from.array("HPKE key of the node")?),
            signature: decode_signature(from)?,
        })
    }
}

/// The u of all points of Curve25519 and of its twist whose order divides 8, little-endian, in each
/// encoding that fits 255 bits (0 and 1 can also be written as q and q + 1). X25519 with any of them
/// gives zero, which RFC 9180 section 7.1.4 has the sender refuse.
const SMALL_ORDER_U: [[u8; 32]; 7] = [
    [0; 32],
    from_ends(0x01, 0, 0),
    // The two of order 8.
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    // q - 1, q, q + 1.
    from_ends(0xec, 0xff, 0x7f),
    from_ends(0xed, 0xff, 0x7f),
    from_ends(0xee, 0xff, 0x7f),
];

/// A number of 32 bytes by its first byte, the thirty that follow, and its last.
const fn from_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut out = [middle; 32];
    out[0] = first;
    out[31] = last;
    out
}

#[cfg(test)]
mod tests {
    use scheme::{Purpose, UnusableKey};

    use super::*;
    use crate::testing::{FourHospitals, rng};

    /// The table holds just the keys to which nothing can be sealed, with the top bit in either way.
    #[test]
    fn nothing_can_be_sealed_to_a_key_of_small_order() {
        let four = FourHospitals::default();
        let seal = |key: HpkePublicKey| {
            let rng = &mut rng("sealing", 1);
            key.seal(Purpose::GrantToNode, &four.consortium, b"", b"a share", rng)
        };
        let node_key = &four.hospital(1).node_key;
        let at = ValidatorEpoch::new(0);
        let certified = |key| {
            let institution = four.hospital(1).institution.id;
            NodeKeyTransaction::sign(&four.consortium, institution, at, key, node_key)
        };
        for u in SMALL_ORDER_U {
            for top in [0, 0x80] {
                let mut bytes = u;
                bytes[31] |= top;
                let key = HpkePublicKey::new(bytes);
                assert_eq!(seal(key), Err(UnusableKey));
                assert!(certified(key).check_shape().is_err());
                // One beside it takes what is sealed, and passes.
                bytes[15] ^= 1;
                let key = HpkePublicKey::new(bytes);
                assert!(seal(key).is_ok());
                assert!(certified(key).check_shape().is_ok());
            }
        }
    }
}
