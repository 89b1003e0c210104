//! Names of the things on the chain.

use std::fmt;

use scheme::{Digest, VerifyingKey};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// From its number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn number(self) -> u64 {
                self.0
            }

            /// The one after it.
            ///
            /// # Panics
            /// After 2^64 - 1, which at a million a second takes 584,000 years.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("2^64 are never reached"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! digest_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// From its 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(Digest::new(bytes))
            }

            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// As a digest.
            pub const fn digest(self) -> Digest {
                self.0
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

counter!(
    /// Where a block stands: the genesis block at 0, each next one higher by 1.
    Height
);
counter!(
    /// Which attempt to lead a block is due within a validator epoch; the fixed rotation of
    /// accounting nodes maps it to its leader. The engine calls it a view.
    LeaderView
);
counter!(
    /// Which record of the chain, from 0, in the order of the blocks.
    RecordNumber
);

digest_name!(
    /// SHA-256 of a block's header with its tag (`spec/chain.md` section 5).
    BlockId
);
digest_name!(
    /// SHA-256 of what the first signer of a transaction signed.
    TransactionId
);
digest_name!(
    /// Root of a state: of the trie over its accountable part and of the record log.
    StateRoot
);
digest_name!(
    /// SHA-256 of a public key, as the registration centre puts it on the chain.
    KeyHash
);
digest_name!(
    /// A commitment to a doctor's request: the digest of the signed request.
    RequestCommitment
);

/// Which key of the registration centre: the founding one is 0, each later one higher by 1, below
/// [`CENTRE_KEYS_MAX`](crate::CENTRE_KEYS_MAX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CentreKeyNumber(u8);

impl CentreKeyNumber {
    /// From its number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in a list of all keys.
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CentreKeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl KeyHash {
    /// Of an Ed25519 key.
    pub fn of(key: &VerifyingKey) -> Self {
        Self(key.hash())
    }
}
