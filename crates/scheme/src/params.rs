//! Equation (5), Setup(lambda = 128) -> PP, MSK, and the identifiers that keys and texts are bound
//! to (`spec/scheme.md` section 2).

use std::fmt;

use crate::signature::VerifyingKey;

/// The suite of this version: BLS12-381, Ed25519 under ZIP-215, X25519-HKDF-SHA256 with
/// AES-256-GCM, SHA-256. Stands in every container.
pub const SUITE: u8 = 1;

/// Which consortium a value belongs to: the SHA-256 of its founding document. Every hash input and
/// every signed text names it, so nothing moves between consortia.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsortiumId([u8; 32]);

impl ConsortiumId {
    /// From the 32 bytes of the founding document's digest.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ConsortiumId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsortiumId(")?;
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("..)")
    }
}

macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// From its number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn number(self) -> $inner {
                self.0
            }

            /// The u64 big-endian bytes that stand in `enc`.
            #[allow(dead_code, reason = "not every number stands in a hash input")]
            pub(crate) fn to_enc(self) -> [u8; 8] {
                u64::from(self.0).to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

integer_id!(
    /// The code that the registration centre gives an institution; unique in the consortium.
    InstitutionId(u32)
);
integer_id!(
    /// A doctor's id as certified; unique in the consortium and never given again.
    DoctorId(u64)
);
integer_id!(
    /// Counts the lives of an institution's index key R, from 0. Never just "epoch".
    WriterEpoch(u32)
);
integer_id!(
    /// Counts the validator sets of the chain, from 0. Never just "epoch".
    ValidatorEpoch(u64)
);
integer_id!(
    /// Milliseconds since 1970-01-01T00:00:00Z, as told by whoever signs the text it stands in.
    Timestamp(u64)
);
integer_id!(
    /// Which renewal of a patient's keys, from 0, one seed gives.
    KeyVersion(u32)
);

/// PP of equation (5): what everyone knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicParameters {
    /// The consortium.
    pub consortium: ConsortiumId,
    /// The registration centre's first verification key; MSK is the signing key to it. The chain says
    /// which it has now.
    pub centre: VerifyingKey,
    /// The smallest number of shares that a grant of this consortium may be cut for.
    pub threshold_min: Threshold,
}

/// t: how many accounting nodes must give a share before anything opens. From 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(u8);

impl Threshold {
    /// `None` for 0.
    pub const fn new(count: u8) -> Option<Self> {
        if count == 0 { None } else { Some(Self(count)) }
    }

    /// How many shares.
    pub const fn count(self) -> usize {
        self.0 as usize
    }
}
