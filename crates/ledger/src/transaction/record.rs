//! The record's transaction (equations 10 and 11; the body of the paper's Figure 8).

use std::collections::BTreeMap;

use scheme::Digest;
use scheme::WriterEpochPublicKey;
use scheme::{ConsortiumId, InstitutionId, Timestamp};
use scheme::{Context, RecordStatement, Sign, Signature, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder};
use scheme::{ENTRIES_MULTIPLE, Entry, OwnerKey, SEALED_LOCATOR_BYTES, SealedLocator, Tag};

use super::{CheckError, Kind, Signer, Text, decode_key, decode_signature};

/// A sealed record on the chain: what the doctor signed, both signatures. It names nothing of the
/// patient but values that are fresh for this record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTransaction {
    /// What the doctor signed: index, digests, author, institution, time.
    pub statement: RecordStatement,
    /// The paper's random number, drawn by the institution's server.
    pub nonce: RecordNonce,
    /// The doctor's signature of the statement.
    pub doctor: Signature,
    /// The institution's signature of the whole transaction.
    pub institution: Signature,
}

/// The random number of Figure 8: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordNonce([u8; 16]);

impl RecordNonce {
    /// From 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl RecordTransaction {
    /// The institution's server signs the whole transaction after the doctor.
    pub fn countersign<K: Sign>(
        consortium: &ConsortiumId,
        statement: RecordStatement,
        doctor: Signature,
        nonce: RecordNonce,
        institution: &K,
    ) -> K::Outcome<Self> {
        text(&statement, &nonce).countersign(
            Context::Transaction,
            consortium,
            doctor.as_bytes(),
            institution,
            |institution| Self {
                statement,
                nonce,
                doctor,
                institution,
            },
        )
    }

    /// Level 2: the doctor's signature, under the author key that the statement names.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.statement
            .verify(consortium, &self.doctor)
            // The order of the entries is level 1, so the signature is all that is left.
            .map_err(|_| CheckError::Signature(Signer::Doctor))
    }

    /// Level 3: the institution's signature, under its key in the state.
    pub(crate) fn check_institution(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        text(&self.statement, &self.nonce)
            .verify_countersignature(
                Context::Transaction,
                consortium,
                self.doctor.as_bytes(),
                key,
                &self.institution,
            )
            .map_err(Signer::Institution.failed())
    }

    /// Level 1: number and order of the entries.
    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        check_entries(&self.statement.entries)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        encode_body(&self.statement, &self.nonce, out);
        out.bytes(self.doctor.as_bytes())
            .bytes(self.institution.as_bytes());
    }

    pub(super) fn decode(
        from: &mut Decoder<'_>,
        writer_keys: &mut WriterKeys,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: statement_from(from, writer_keys)?,
            nonce: RecordNonce(from.array("random number")?),
            doctor: decode_signature(from)?,
            institution: decode_signature(from)?,
        })
    }
}

/// The keys R of the records that are decoded together. Decoding a point of G2 costs as much as
/// checking a signature, and the records of a block are under a handful of keys.
#[derive(Debug, Default)]
pub(crate) struct WriterKeys {
    decoded: BTreeMap<[u8; WriterEpochPublicKey::BYTES], WriterEpochPublicKey>,
}

impl WriterKeys {
    fn decode(
        &mut self,
        bytes: &[u8; WriterEpochPublicKey::BYTES],
    ) -> Result<WriterEpochPublicKey, DecodeError> {
        if let Some(key) = self.decoded.get(bytes) {
            return Ok(key.clone());
        }
        let key = WriterEpochPublicKey::from_bytes(bytes)?;
        self.decoded.insert(*bytes, key.clone());
        Ok(key)
    }
}

/// What the institution signs, before the doctor's signature is added.
fn text(statement: &RecordStatement, nonce: &RecordNonce) -> Text {
    Text::new(Context::Transaction, Kind::Record, |out| {
        encode_body(statement, nonce, out);
    })
}

/// The bytes of a statement, as they stand in the record's transaction before the random number: what a
/// doctor's machine hands to the hospital's server.
pub fn encode_record_statement(statement: &RecordStatement) -> Vec<u8> {
    let mut out = Encoder::new();
    encode_statement(statement, &mut out);
    out.finish()
}

/// Reads a statement with its level 1: at most 1,024 entries in their order.
///
/// # Errors
/// [`DecodeError`] if the bytes are none.
pub fn decode_record_statement(bytes: &[u8]) -> Result<RecordStatement, DecodeError> {
    let mut from = Decoder::new(bytes);
    let statement = statement_from(&mut from, &mut WriterKeys::default())?;
    from.finish("the record's statement")?;
    check_entries(&statement.entries)?;
    Ok(statement)
}

/// Level 1: a positive multiple of eight, at most [`ENTRIES_MAX`], strictly ascending by tag.
fn check_entries(entries: &[Entry]) -> Result<(), DecodeError> {
    if entries.len() > ENTRIES_MAX {
        let (found, limit) = (entries.len() as u64, ENTRIES_MAX as u64);
        return Err(DecodeError::TooLarge {
            what: "number of index entries",
            found,
            limit,
        });
    }
    if entries.is_empty() || !entries.len().is_multiple_of(ENTRIES_MULTIPLE) {
        let what = "number of index entries";
        return Err(DecodeError::Invalid {
            what,
            why: "not a positive multiple of 8",
        });
    }
    if !entries.is_sorted_by(|one, other| one.tag.as_bytes() < other.tag.as_bytes()) {
        let what = "index entries";
        return Err(DecodeError::Invalid {
            what,
            why: "not strictly ascending by tag",
        });
    }
    Ok(())
}

fn statement_from(
    from: &mut Decoder<'_>,
    writer_keys: &mut WriterKeys,
) -> Result<RecordStatement, DecodeError> {
    let digest = Digest::new(from.array("digest")?);
    let header_digest = Digest::new(from.array("header digest")?);
    let owner_key = OwnerKey::from_bytes(&from.array("owner key")?)?;
    let locator = SealedLocator::new(from.array::<SEALED_LOCATOR_BYTES>("sealed locator")?);
    let count = from.count("number of index entries", ENTRIES_MAX)?;
    let entries = (0..count)
        .map(|_| {
            Ok(Entry {
                tag: Tag::new(from.array("tag")?),
                pad: from.array("pad")?,
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(RecordStatement {
        digest,
        header_digest,
        owner_key,
        locator,
        entries,
        writer_key: writer_keys.decode(&from.array("writer epoch key")?)?,
        author: decode_key("author key", from)?,
        institution: InstitutionId::new(from.u32("institution")?),
        time: Timestamp::new(from.u64("time")?),
    })
}

fn encode_body(statement: &RecordStatement, nonce: &RecordNonce, out: &mut Encoder) {
    encode_statement(statement, out);
    out.bytes(nonce.as_bytes());
}

fn encode_statement(statement: &RecordStatement, out: &mut Encoder) {
    let count = u32::try_from(statement.entries.len()).expect("a record has at most 1,024 entries");
    out.bytes(statement.digest.as_bytes())
        .bytes(statement.header_digest.as_bytes())
        .bytes(statement.owner_key.as_bytes())
        .bytes(statement.locator.as_bytes())
        .u32(count);
    for entry in &statement.entries {
        out.bytes(entry.tag.as_bytes()).bytes(&entry.pad);
    }
    out.bytes(statement.writer_key.as_bytes())
        .bytes(statement.author.as_bytes())
        .u32(statement.institution.number())
        .u64(statement.time.number());
}

/// 1,024 entries of 32 bytes are half of a transaction's 64 KiB.
pub(crate) const ENTRIES_MAX: usize = 1_024;
