//! The cryptography of willis, and nothing else: no clock, no file, no socket; randomness is passed
//! in. One module per algorithm of `spec/scheme.md`, whose section numbers the modules name; the
//! equation numbers are the paper's.
//!
//! | equation | here |
//! |---|---|
//! | (5) Setup | [`PublicParameters`] |
//! | (6), (7) KeyGen | [`PatientKeys`], [`WriterEpochKey`], [`SigningKey`] |
//! | (8) NameGen | [`SymmetricKey`], [`DoctorSubkey`] |
//! | (9) MDEnc | [`Sealing`], [`SectionSealer`] |
//! | (10) SignGen | [`RecordStatement`] |
//! | (11) IndexGen | [`KeywordBlinding`], [`unblind`], [`IndexKey`] |
//! | (12) TokenGen | [`Trapdoor`] |
//! | (13) Query | [`IndexKey::search`] |
//! | (14) RKGen | [`ReEncryptionKey`], [`Grant`] |
//! | (15) ReEnc | [`Share::re_encrypt`], [`ReEncrypted::combine`] |
//! | (16) Dec | [`ReEncrypted::open`], [`SectionOpener`] |
//!
//! A patient's pseudonym, by the patient and by the doctor whom the patient gave a subkey:
//!
//! ```
//! use scheme::{ConsortiumId, DoctorId, EpisodeNumber, InstitutionId, KeyVersion, PatientKeys, RootSeed, Uid};
//! use subtle::ConstantTimeEq;
//!
//! let consortium = ConsortiumId::new([1; 32]);
//! let seed = RootSeed::from_bytes([7; 32]); // a real one comes from RootSeed::random
//! let keys = PatientKeys::derive(&seed, KeyVersion::new(0), &consortium);
//! let subkey = keys.symmetric.doctor_subkey(&consortium, InstitutionId::new(3), DoctorId::new(12));
//!
//! let uid = Uid::new(b"R-2041")?;
//! let here = subkey.pseudonym(&consortium, &uid, EpisodeNumber::new(0));
//! let later = subkey.pseudonym(&consortium, &uid, EpisodeNumber::new(1));
//! assert!(!bool::from(here.ct_eq(&later)));
//! # Ok::<(), scheme::DecodeError>(())
//! ```

mod agent;
mod document;
mod encoding;
mod grant;
mod group;
mod hash;
mod held_key;
mod index;
mod keys;
mod params;
mod pseudonym;
mod re_encryption;
mod sealing;
mod signature;
#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "the vectors lie in files beside the specification"
)]
mod vectors;

pub use agent::{AgentKey, Appointment, AppointmentId, AppointmentTerms, SCOPE_MAX};
pub use document::{
    Author, BlsPoint, CHUNK_BYTES, CHUNK_TAG_BYTES, CONTAINER_VERSION, ClassCode, ClassLabelKey,
    ContentKey, DisclosedSecret, Encapsulation, ForeignEncapsulation, HEADER_BYTES_MAX, Header,
    Label, OpenError, SECTION_BYTES_MAX, SECTIONS_MAX, SealError, Sealing, SectionIndex,
    SectionOpener, SectionPlan, SectionSealer, SectionSecret, VerifiedHeader, WrongKey,
};
pub use encoding::{DecodeError, Decoder, Encoder, enc};
pub use grant::{
    CLASSES_MAX, DoctorPart, EXPLICIT_MAX, EpisodeSigningKey, ExplicitEntry, ForeignGrant,
    GRANT_BYTES_MAX, GRANT_VERSION, GRANTEES_MAX, Grant, GrantError, GrantNode, GrantTerms,
    GrantedClass, Grantee, Granter, NODES_MAX, NodePart, PartError, REQUEST_BYTES_MAX, Reach,
    TRAPDOORS_MAX, VerifiedGrant, WriterTrapdoor,
};
pub use hash::{Digest, DigestStream, sha256};
pub use held_key::{HeldKey, Sign, Signer, SignerError};
pub use index::{
    ALLOCATION_WINDOW, Address, AllocationId, BlindedKeyword, CompressedOwnerKey, Degenerate,
    Delta, ENTRIES_MULTIPLE, Entry, EpisodeKey, EvaluatedKeyword, IndexKey, KEYWORD_BYTES_MAX,
    Keyword, KeywordBlinding, Locator, LocatorBinding, LocatorKey, NotThisLocator, OwnerKey,
    Position, Presence, RaisedKeyword, SEALED_LOCATOR_BYTES, SealedLocator, Tag, Trapdoor,
    UnblindError, Writer, pad_entries, unblind,
};
pub use keys::{
    AccountSecret, BadProof, BlsSignature, CompressedWriterEpochKey, DirectoryKey, EncryptionKey,
    EncryptionPublicKey, OwnershipKey, OwnershipPublicKey, PatientKeys, RootSeed, SealingSecret,
    SearchKey, SearchPublicKey, Subject, WriterEpochKey, WriterEpochProof, WriterEpochPublicKey,
    verify_encryption_key, verify_handover, verify_ownership_key, verify_search_key,
};
pub use params::{
    ConsortiumId, DoctorId, InstitutionId, KeyVersion, PublicParameters, SUITE, Threshold,
    Timestamp, ValidatorEpoch, WriterEpoch,
};
pub use pseudonym::{DoctorSubkey, EpisodeNumber, Pid, SymmetricKey, UID_BYTES_MAX, Uid};
pub use re_encryption::{
    BadShare, ClassPlace, CombineError, Commitments, ConditionKey, GrantId, LogKey, LyingNode,
    MaskSeed, NodeNumber, ReEncrypted, ReEncryptedShare, ReEncryptionKey, Share, ShareProof,
    ShareStatement, SharingError, UncheckedShare,
};
pub use sealing::{
    CannotOpen, HpkePrivateKey, HpkePublicKey, InboxHandle, Purpose, SEALING_OVERHEAD, UnusableKey,
};
pub use signature::{
    BadSignature, Context, RecordStatement, Signature, SigningKey, StatementError, VerifyingKey,
    signed_text,
};
