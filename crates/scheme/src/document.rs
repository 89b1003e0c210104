//! Equation (9), MDEnc: a medical record becomes a container (`spec/scheme.md` section 6).
//!
//! A record is a set of sections, each of one section class. Its condition is
//! `c = (PID, section class)`, `Qc = H1_COND(c)`, and
//!
//! ```text
//! r = Hs_R(s_D, nonce, author key, A)        U = g2^r        V = H1_U(HC)^r
//! K = e(Qc^r, A) = e(Qc^a, U)                author's side = owner's side
//! data key = Expand(HT(K), "data", SHA-256(HC), section index, label)
//! kc       = Expand(HT(K), "commit", SHA-256(HC), section index, label)
//! ```
//!
//! kc is checked before any ciphertext. `e(V, g2) = e(H1_U(HC), U)` shows everyone that who made
//! this header knows r, so nobody can reuse or transform another record's U (a U that is a power of a
//! writer epoch's R, whose exponent the server lends, is no record's). Payload: chunks of
//! 64 KiB, STREAM over AES-256-GCM with a zero prefix, since the key is single-use. Lengths are
//! padded by Padme; the true length stands inside the sealed payload.

use std::cell::Cell;
use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::group::{G1, G1_BYTES, G2, G2_BYTES, Gt, Scalar, pairing, pairings_equal};
use crate::hash::{self, Digest, Extracted, h1, hs, prf, sha256};
use crate::keys::{EncryptionKey, EncryptionPublicKey, SealingSecret, public_point};
use crate::params::{ConsortiumId, InstitutionId, SUITE};
use crate::pseudonym::Pid;
use crate::signature::VerifyingKey;

/// The version of the container's layout, its first byte after the magic.
pub const CONTAINER_VERSION: u8 = 1;
/// Plaintext bytes of every chunk but a section's last.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes that AES-256-GCM adds to each chunk.
pub const CHUNK_TAG_BYTES: usize = 16;
/// The largest number of sections: one for each section class, with room to grow.
pub const SECTIONS_MAX: usize = 32;
/// The longest section, in bytes of plaintext: 2^40, so that chunk numbers (2^24) fit a u32.
pub const SECTION_BYTES_MAX: u64 = 1 << 40;

const MAGIC: &[u8; 4] = b"WEMD";
/// The true length that begins each sealed payload.
const LENGTH_BYTES: u64 = 8;
/// HC up to the list of sections: magic 4, version 1, suite 1, consortium 32, author 32,
/// institution 4, nonce 32, U 96, count 1.
const HEADER_FIXED_BYTES: usize = 4 + 1 + 1 + 32 + 32 + 4 + 32 + G2_BYTES + 1;
/// Per section in HC: label 32, padded length 8, chunk count 4.
const SECTION_ENTRY_BYTES: usize = 32 + 8 + 4;
/// The largest header, in bytes: what a reader fetches first.
pub const HEADER_BYTES_MAX: usize =
    HEADER_FIXED_BYTES + SECTIONS_MAX * (SECTION_ENTRY_BYTES + 32) + G1_BYTES;

/// A section class by its code in `spec/formats.md`; with the PID it is the condition of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassCode(u8);

impl ClassCode {
    /// From its code.
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// Its code.
    pub const fn code(self) -> u8 {
        self.0
    }

    fn to_enc(self) -> [u8; 8] {
        u64::from(self.0).to_be_bytes()
    }
}

/// One section of a record that is about to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionPlan {
    /// Its class; at most once in a record.
    pub class: ClassCode,
    /// Its exact length in bytes, at most [`SECTION_BYTES_MAX`].
    pub length: u64,
}

/// Why a record cannot be sealed as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// No section at all.
    #[error("the record has no section: add at least one")]
    Empty,
    /// More sections than a header can name.
    #[error("the record has too many sections, at most {SECTIONS_MAX} are possible")]
    TooManySections,
    /// A class stands twice.
    #[error("a section class stands twice: put its parts into one section")]
    RepeatedClass,
    /// A section is too long.
    #[error("a section is longer than 2^40 bytes: split the record")]
    TooLong,
    /// More or fewer bytes came than the plan said. Nothing must be stored: start again.
    #[error(
        "the section's bytes changed while they were sealed: {planned} were planned, {came} came"
    )]
    LengthChanged {
        /// Bytes that the plan said.
        planned: u64,
        /// Bytes that came.
        came: u64,
    },
}

/// Who seals: the author of equation (10).
pub struct Author<'a> {
    /// s_D of the year.
    pub secret: &'a SealingSecret,
    /// The author's signing key.
    pub key: VerifyingKey,
    /// The author's institution.
    pub institution: InstitutionId,
}

/// A record's header, sealed, and the keys of its sections, waiting for their bytes.
pub struct Sealing {
    header: Header,
    /// Each is taken once: two contents sealed under one key would share nonces.
    keys: Vec<Cell<Option<ContentKey>>>,
    plans: Vec<SectionPlan>,
}

impl Sealing {
    /// Equation (9) up to the payload: a fresh nonce, r, U, labels, HC, kc, V.
    ///
    /// # Errors
    /// [`SealError`] if the plan cannot be sealed.
    pub fn new(
        consortium: &ConsortiumId,
        author: &Author<'_>,
        owner: &EncryptionPublicKey,
        pid: &Pid,
        plans: &[SectionPlan],
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SealError> {
        check_plans(plans)?;
        let (nonce, r) = loop {
            let mut nonce = [0; 32];
            rng.fill_bytes(&mut nonce);
            if let Some(r) = author_exponent(consortium, author.secret, &nonce, &author.key, owner)
            {
                break (nonce, r);
            }
        };
        let u = Encapsulation::from_point(G2::generator_power(&r));
        let mut sections: Vec<(SectionEntry, SectionPlan)> = plans
            .iter()
            .map(|plan| {
                let label =
                    ClassLabelKey::derive(consortium, pid, plan.class).label(consortium, &u);
                let padded = padded_length(plan.length);
                (
                    SectionEntry {
                        label,
                        padded,
                        chunks: chunk_count(padded),
                        commitment: [0; 32],
                    },
                    *plan,
                )
            })
            .collect();
        // By label, so that the order tells nothing of the classes.
        sections.sort_by_key(|(entry, _)| entry.label);
        let (entries, plans): (Vec<_>, Vec<_>) = sections.into_iter().unzip();
        let mut header = Header {
            consortium: *consortium,
            author: author.key,
            institution: author.institution,
            nonce,
            u,
            sections: entries,
            v: BlsPoint::from_point(G1::generator()),
        };
        let hc = header.committed();
        let hc_digest = sha256(&hc);
        let mut keys = Vec::with_capacity(plans.len());
        for (index, plan) in plans.iter().enumerate() {
            let k = pairing(
                &condition(consortium, pid, plan.class).power(&r),
                &owner.point,
            );
            let derived = header.derive(&hc_digest, SectionIndex(index as u8), &k);
            header.sections[index].commitment = *derived.commitment;
            keys.push(Cell::new(Some(derived.key)));
        }
        header.v = BlsPoint::from_point(h1(hash::U, consortium, &[&hc]).power(&r));
        Ok(Self {
            header,
            keys,
            plans,
        })
    }

    /// The header; its bytes begin the container.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The plans in the order in which the sections' payloads follow the header.
    pub fn order(&self) -> &[SectionPlan] {
        &self.plans
    }

    /// Starts to seal the section at this place of [`Sealing::order`], once: chunks are sealed under
    /// counted nonces, so another content under the same key would break both. `None` the second time
    /// and past the end; a record whose sealing broke off is sealed anew, with a fresh nonce.
    pub fn section(&self, place: usize) -> Option<SectionSealer> {
        let plan = self.plans.get(place)?;
        let key = self.keys[place].take()?;
        Some(SectionSealer::new(&key, plan.length))
    }
}

public_point!(
    /// U = g2^r.
    Encapsulation(G2, G2_BYTES, "the encapsulation U")
);
public_point!(
    /// V = H1_U(HC)^r.
    BlsPoint(G1, G1_BYTES, "the header's proof V")
);

/// Which section of a container, in the order of its header, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectionIndex(pub(crate) u8);

impl SectionIndex {
    /// Its place in the header.
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// label = PRF(Lc, U): which section this is, to those who hold Lc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub(crate) [u8; 32]);

impl Label {
    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Lc = PRF(PID, "LC", section class): recognises the sections of one class of one episode.
#[derive(Clone)]
pub struct ClassLabelKey(Zeroizing<[u8; 32]>);

impl ClassLabelKey {
    /// From the PID.
    pub fn derive(consortium: &ConsortiumId, pid: &Pid, class: ClassCode) -> Self {
        Self(prf(
            pid.expose_bytes(),
            hash::LC,
            consortium,
            &[&class.to_enc()],
        ))
    }

    /// From the sealed part of a grant.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the sealed part of a grant.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The label of this class in the container of this U.
    pub fn label(&self, consortium: &ConsortiumId, u: &Encapsulation) -> Label {
        Label(*prf(&self.0, hash::LABEL, consortium, &[u.as_bytes()]))
    }
}

/// What the header says of one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionEntry {
    pub(crate) label: Label,
    pub(crate) padded: u64,
    pub(crate) chunks: u32,
    pub(crate) commitment: [u8; 32],
}

/// A container's header as decoded; whether its maker knew r is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    consortium: ConsortiumId,
    author: VerifyingKey,
    institution: InstitutionId,
    pub(crate) nonce: [u8; 32],
    u: Encapsulation,
    pub(crate) sections: Vec<SectionEntry>,
    pub(crate) v: BlsPoint,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({})", self.digest())
    }
}

impl Header {
    /// Decodes the header (E15, E16) at the beginning of `bytes` and says how long it is. `bytes` need
    /// not hold more than [`HEADER_BYTES_MAX`]. Every reader passes its own consortium.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut short, of another version, suite or consortium, or not canonical:
    /// labels ascend strictly, lengths are Padme lengths, chunk counts follow from them.
    pub fn decode(own: &ConsortiumId, bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        const WHAT: &str = "the container's header";
        let mut decoder = Decoder::new(bytes);
        if decoder.bytes(WHAT, 4)? != MAGIC {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it does not begin with WEMD",
            });
        }
        if decoder.u8(WHAT)? != CONTAINER_VERSION {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            });
        }
        if decoder.u8(WHAT)? != SUITE {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its cryptographic suite is unknown here",
            });
        }
        let consortium = ConsortiumId::new(decoder.array(WHAT)?);
        if consortium != *own {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it names another consortium",
            });
        }
        let author = VerifyingKey::new(decoder.array(WHAT)?);
        let institution = InstitutionId::new(decoder.u32(WHAT)?);
        let nonce = decoder.array(WHAT)?;
        let u = Encapsulation::from_bytes(&decoder.array(WHAT)?)?;
        let count = usize::from(decoder.u8(WHAT)?);
        if count == 0 {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it has no section",
            });
        }
        if count > SECTIONS_MAX {
            let (found, limit) = (count as u64, SECTIONS_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "the number of sections",
                found,
                limit,
            });
        }
        let mut sections: Vec<SectionEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = SectionEntry {
                label: Label(decoder.array(WHAT)?),
                padded: decoder.u64(WHAT)?,
                chunks: decoder.u32(WHAT)?,
                commitment: [0; 32],
            };
            if sections
                .last()
                .is_some_and(|last| last.label >= entry.label)
            {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "its labels do not ascend",
                });
            }
            let longest = padded_length(SECTION_BYTES_MAX);
            if entry.padded > longest {
                return Err(DecodeError::TooLarge {
                    what: "a section's length",
                    found: entry.padded,
                    limit: longest,
                });
            }
            if entry.padded < LENGTH_BYTES || padme(entry.padded) != entry.padded {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "a section's length is no padded length",
                });
            }
            if entry.chunks != chunk_count(entry.padded) {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "a chunk count does not follow from its length",
                });
            }
            sections.push(entry);
        }
        for entry in &mut sections {
            entry.commitment = decoder.array(WHAT)?;
        }
        let v = BlsPoint::from_bytes(&decoder.array(WHAT)?)?;
        let length = bytes.len() - decoder.remaining();
        Ok((
            Self {
                consortium,
                author,
                institution,
                nonce,
                u,
                sections,
                v,
            },
            length,
        ))
    }

    /// HC, the key commitments, V (E16).
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.bytes(&self.committed());
        for section in &self.sections {
            encoder.bytes(&section.commitment);
        }
        encoder.bytes(self.v.as_bytes());
        encoder.finish()
    }

    /// hdr = SHA-256 of the header.
    pub fn digest(&self) -> Digest {
        sha256(&self.encode())
    }

    /// Checks `e(V, g2) = e(H1_U(HC), U)`: the maker of this header knew r.
    ///
    /// # Errors
    /// [`ForeignEncapsulation`] otherwise.
    pub fn verify(self) -> Result<VerifiedHeader, ForeignEncapsulation> {
        let hashed = h1(hash::U, &self.consortium, &[&self.committed()]);
        if !pairings_equal(&self.v.point, &G2::generator(), &hashed, &self.u.point) {
            return Err(ForeignEncapsulation);
        }
        Ok(VerifiedHeader(self))
    }

    /// The consortium that the header names.
    pub fn consortium(&self) -> &ConsortiumId {
        &self.consortium
    }

    /// The author that the header names.
    pub fn author(&self) -> VerifyingKey {
        self.author
    }

    /// The institution that the header names.
    pub fn institution(&self) -> InstitutionId {
        self.institution
    }

    /// U.
    pub fn encapsulation(&self) -> &Encapsulation {
        &self.u
    }

    /// All sections, in the order of the header.
    pub fn sections(&self) -> impl Iterator<Item = SectionIndex> + '_ {
        (0..self.sections.len()).map(|place| SectionIndex(place as u8))
    }

    /// The section of a class, by its label.
    pub fn find(&self, key: &ClassLabelKey) -> Option<SectionIndex> {
        self.find_label(&key.label(&self.consortium, &self.u))
    }

    pub(crate) fn find_label(&self, label: &Label) -> Option<SectionIndex> {
        self.sections
            .binary_search_by_key(label, |entry| entry.label)
            .ok()
            .map(|place| SectionIndex(place as u8))
    }

    /// Bytes of a section's payload in the container: padded length and a tag per chunk.
    pub fn payload_length(&self, index: SectionIndex) -> u64 {
        let entry = &self.sections[index.place()];
        entry.padded + u64::from(entry.chunks) * CHUNK_TAG_BYTES as u64
    }

    /// Where a section's payload begins in the container, in bytes.
    pub fn payload_offset(&self, index: SectionIndex) -> u64 {
        let header =
            HEADER_FIXED_BYTES + self.sections.len() * (SECTION_ENTRY_BYTES + 32) + G1_BYTES;
        self.sections()
            .take(index.place())
            .map(|earlier| self.payload_length(earlier))
            .sum::<u64>()
            + header as u64
    }

    /// Bytes of the whole container.
    pub fn container_length(&self) -> u64 {
        let last = SectionIndex((self.sections.len() - 1) as u8);
        self.payload_offset(last) + self.payload_length(last)
    }

    /// HC.
    pub(crate) fn committed(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder
            .bytes(MAGIC)
            .u8(CONTAINER_VERSION)
            .u8(SUITE)
            .bytes(self.consortium.as_bytes())
            .bytes(self.author.as_bytes())
            .u32(self.institution.number())
            .bytes(&self.nonce)
            .bytes(self.u.as_bytes())
            .u8(self.sections.len() as u8);
        for section in &self.sections {
            encoder
                .bytes(&section.label.0)
                .u64(section.padded)
                .u32(section.chunks);
        }
        encoder.finish()
    }

    pub(crate) fn derive(&self, hc_digest: &Digest, index: SectionIndex, k: &Gt) -> Derived {
        self.derive_extracted(hc_digest, index, &Extracted::from_pairing(&k.to_bytes()))
    }

    fn derive_extracted(
        &self,
        hc_digest: &Digest,
        index: SectionIndex,
        extracted: &Extracted,
    ) -> Derived {
        let place = u64::from(index.0).to_be_bytes();
        let label = &self.sections[index.place()].label.0;
        let parts: [&[u8]; 3] = [hc_digest.as_bytes(), &place, label];
        Derived {
            commitment: extracted.expand(hash::COMMIT, &self.consortium, &parts),
            key: ContentKey {
                key: extracted.expand(hash::DATA, &self.consortium, &parts),
                aad: *hc_digest,
            },
        }
    }
}

pub(crate) struct Derived {
    pub(crate) commitment: Zeroizing<[u8; 32]>,
    pub(crate) key: ContentKey,
}

impl Derived {
    fn fitting(self, header: &Header, index: SectionIndex) -> Result<ContentKey, WrongKey> {
        let expected = &header.sections[index.place()].commitment;
        if bool::from(self.commitment.as_slice().ct_eq(expected.as_slice())) {
            return Ok(self.key);
        }
        Err(WrongKey)
    }
}

/// The header was made by someone who does not know r of its U: a copied or transformed
/// encapsulation. Refuse the container and name its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the container's header was not made by whoever made its encapsulation")]
pub struct ForeignEncapsulation;

/// A header whose V fits its U. Only from it does a node take U.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader(Header);

impl VerifiedHeader {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.0
    }
}

/// The key is not this section's: not granted, the wrong class, or a faulty share. Asking the nodes
/// for shares again with proofs tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the key does not fit the section's key commitment")]
pub struct WrongKey;

/// K of one section: the pairing value that its keys come from.
pub struct SectionSecret(pub(crate) Gt);

impl SectionSecret {
    /// The owner's side, e(Qc^a, U).
    pub fn of_owner(
        consortium: &ConsortiumId,
        key: &EncryptionKey,
        pid: &Pid,
        class: ClassCode,
        u: &Encapsulation,
    ) -> Self {
        Self(pairing(
            &condition(consortium, pid, class).power(&key.0),
            &u.point,
        ))
    }

    /// The author's side, e(Qc^r, A): r comes again from s_D and the header's nonce.
    ///
    /// # Errors
    /// [`WrongKey`] if this author did not make the header with this s_D for this owner.
    pub fn of_author(
        header: &Header,
        secret: &SealingSecret,
        owner: &EncryptionPublicKey,
        pid: &Pid,
        class: ClassCode,
    ) -> Result<Self, WrongKey> {
        let r = author_exponent(
            &header.consortium,
            secret,
            &header.nonce,
            &header.author,
            owner,
        )
        .ok_or(WrongKey)?;
        if G2::generator_power(&r) != header.u.point {
            return Err(WrongKey);
        }
        Ok(Self(pairing(
            &condition(&header.consortium, pid, class).power(&r),
            &owner.point,
        )))
    }

    /// The section's content key, once its key commitment fits.
    ///
    /// # Errors
    /// [`WrongKey`] if it does not.
    pub fn content_key(
        &self,
        header: &Header,
        index: SectionIndex,
    ) -> Result<ContentKey, WrongKey> {
        let derived = header.derive(&sha256(&header.committed()), index, &self.0);
        derived.fitting(header, index)
    }

    /// HT(K), for whoever shall open this one section and prove what it holds: it opens no other section,
    /// record or class.
    pub fn disclose(&self) -> DisclosedSecret {
        DisclosedSecret(Extracted::from_pairing(&self.0.to_bytes()).into_prf_key())
    }
}

/// HT(K) of one section: with it anybody opens this section of this container, and sees by the key
/// commitment that it is the one that the author sealed.
pub struct DisclosedSecret(Zeroizing<[u8; 32]>);

impl DisclosedSecret {
    /// From its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes. The name admits that they open the section.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The section's content key, once its key commitment fits.
    ///
    /// # Errors
    /// [`WrongKey`] if it does not, or the container has no such section.
    pub fn content_key(
        &self,
        header: &Header,
        index: SectionIndex,
    ) -> Result<ContentKey, WrongKey> {
        if index.place() >= header.sections.len() {
            return Err(WrongKey);
        }
        let extracted = Extracted::from_prf_key(&self.0);
        let digest = sha256(&header.committed());
        let derived = header.derive_extracted(&digest, index, &extracted);
        derived.fitting(header, index)
    }
}

/// The data key of one section and the AAD of its chunks.
#[derive(Clone)]
pub struct ContentKey {
    pub(crate) key: Zeroizing<[u8; 32]>,
    aad: Digest,
}

impl ContentKey {
    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&(*self.key).into())
    }
}

/// Seals one section's bytes (E17) as they come, in memory of one chunk.
pub struct SectionSealer {
    cipher: Aes256Gcm,
    aad: Digest,
    planned: u64,
    came: u64,
    counter: u32,
    chunks: u32,
    buffer: Zeroizing<Vec<u8>>,
}

impl SectionSealer {
    fn new(key: &ContentKey, planned: u64) -> Self {
        let mut buffer = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        buffer.extend_from_slice(&planned.to_be_bytes());
        Self {
            cipher: key.cipher(),
            aad: key.aad,
            planned,
            came: 0,
            counter: 0,
            chunks: chunk_count(padded_length(planned)),
            buffer,
        }
    }

    /// Takes the next plaintext bytes and appends finished chunks to `out`.
    ///
    /// # Errors
    /// [`SealError::LengthChanged`] if more bytes come than were planned.
    pub fn update(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        self.came += plain.len() as u64;
        if self.came > self.planned {
            return Err(SealError::LengthChanged {
                planned: self.planned,
                came: self.came,
            });
        }
        while !plain.is_empty() {
            let (head, rest) = plain.split_at(plain.len().min(CHUNK_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(head);
            plain = rest;
            if self.buffer.len() == CHUNK_BYTES {
                self.flush(out);
            }
        }
        Ok(())
    }

    /// Appends the padding and the last chunk. Padding can be an eighth of the section: for a section
    /// that is not held in memory take [`SectionSealer::finish_by_chunk`].
    ///
    /// # Errors
    /// [`SealError::LengthChanged`] if fewer bytes came than were planned.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.finish_by_chunk(|chunk| {
            out.extend_from_slice(chunk);
            Ok(())
        })
    }

    /// Gives the padding and the last chunk to `take`, one sealed chunk at a time.
    ///
    /// # Errors
    /// [`SealError::LengthChanged`] if fewer bytes came than were planned; what `take` returns.
    pub fn finish_by_chunk<E: From<SealError>>(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.came != self.planned {
            return Err(E::from(SealError::LengthChanged {
                planned: self.planned,
                came: self.came,
            }));
        }
        let mut sealed = Vec::with_capacity(CHUNK_BYTES + CHUNK_TAG_BYTES);
        let mut padding = padded_length(self.planned) - LENGTH_BYTES - self.planned;
        while self.counter < self.chunks {
            let zeros = padding.min((CHUNK_BYTES - self.buffer.len()) as u64);
            padding -= zeros;
            let filled = self.buffer.len() + zeros as usize;
            self.buffer.resize(filled, 0);
            self.flush(&mut sealed);
            take(&sealed)?;
            sealed.clear();
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let nonce = chunk_nonce(self.counter, self.counter + 1 == self.chunks);
        let start = out.len();
        out.extend_from_slice(&self.buffer);
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &nonce.into(),
                self.aad.as_bytes(),
                InOutBuf::from(&mut out[start..]),
            )
            .expect("a chunk is below AES-GCM's limit");
        out.extend_from_slice(&tag);
        self.counter += 1;
        // The buffer is wiped when it is dropped; until then the next chunk overwrites it.
        self.buffer.clear();
    }
}

/// Why a section's payload cannot be opened. Nothing of it may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A chunk was altered, moved, or belongs to another container.
    #[error("chunk {chunk} of the section is not what its author sealed")]
    Altered {
        /// Its number, from 0.
        chunk: u32,
    },
    /// The payload ends early.
    #[error("the section ends early: {missing} bytes of its payload are missing")]
    CutShort {
        /// Bytes that are missing.
        missing: u64,
    },
    /// More bytes came than the header says.
    #[error("the section is longer than its header says")]
    TooLong,
    /// The sealed length or padding is impossible, which only the author can have caused.
    #[error("the section's sealed length does not fit its padded length")]
    BadPadding,
}

/// Opens one section's payload (E17) as it comes, in memory of one chunk. Bytes are given out only after
/// their chunk was verified; that none is missing is known at [`SectionOpener::finish`].
pub struct SectionOpener {
    cipher: Aes256Gcm,
    aad: Digest,
    padded: u64,
    chunks: u32,
    counter: u32,
    length: Option<u64>,
    given: u64,
    buffer: Zeroizing<Vec<u8>>,
}

impl SectionOpener {
    /// Starts at the first byte of the section's payload.
    pub fn new(header: &Header, index: SectionIndex, key: &ContentKey) -> Self {
        let entry = &header.sections[index.place()];
        Self {
            cipher: key.cipher(),
            aad: key.aad,
            padded: entry.padded,
            chunks: entry.chunks,
            counter: 0,
            length: None,
            given: 0,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK_BYTES + CHUNK_TAG_BYTES)),
        }
    }

    /// Takes the next payload bytes and appends verified plaintext to `out`.
    ///
    /// # Errors
    /// [`OpenError`]; the opener must not be used after one.
    pub fn update(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        while !sealed.is_empty() {
            if self.counter == self.chunks {
                return Err(OpenError::TooLong);
            }
            let wanted = self.chunk_length() + CHUNK_TAG_BYTES;
            let (head, rest) = sealed.split_at(sealed.len().min(wanted - self.buffer.len()));
            self.buffer.extend_from_slice(head);
            sealed = rest;
            if self.buffer.len() == wanted {
                self.open_chunk(out)?;
            }
        }
        Ok(())
    }

    /// Ends the payload and gives the section's true length.
    ///
    /// # Errors
    /// [`OpenError::CutShort`] if chunks are missing, [`OpenError::BadPadding`] if the sealed length
    /// is impossible.
    pub fn finish(self) -> Result<u64, OpenError> {
        if self.counter < self.chunks {
            let total = self.padded + u64::from(self.chunks) * CHUNK_TAG_BYTES as u64;
            let came = u64::from(self.counter) * (CHUNK_BYTES + CHUNK_TAG_BYTES) as u64
                + self.buffer.len() as u64;
            return Err(OpenError::CutShort {
                missing: total.saturating_sub(came),
            });
        }
        match self.length {
            Some(length) if length == self.given => Ok(length),
            _ => Err(OpenError::BadPadding),
        }
    }

    fn chunk_length(&self) -> usize {
        let before = u64::from(self.counter) * CHUNK_BYTES as u64;
        (self.padded - before).min(CHUNK_BYTES as u64) as usize
    }

    fn open_chunk(&mut self, out: &mut Vec<u8>) -> Result<(), OpenError> {
        let altered = OpenError::Altered {
            chunk: self.counter,
        };
        let nonce = chunk_nonce(self.counter, self.counter + 1 == self.chunks);
        let plain_length = self.buffer.len() - CHUNK_TAG_BYTES;
        let (plain, tag) = self.buffer.split_at_mut(plain_length);
        let tag: [u8; CHUNK_TAG_BYTES] = (&*tag).try_into().map_err(|_| altered)?;
        self.cipher
            .decrypt_inout_detached(
                &nonce.into(),
                self.aad.as_bytes(),
                InOutBuf::from(&mut *plain),
                &tag.into(),
            )
            .map_err(|_| altered)?;
        let mut content: &[u8] = plain;
        if self.counter == 0 {
            let (length, rest) = content
                .split_at_checked(LENGTH_BYTES as usize)
                .ok_or(OpenError::BadPadding)?;
            let length = u64::from_be_bytes(length.try_into().map_err(|_| OpenError::BadPadding)?);
            if length > SECTION_BYTES_MAX || padded_length(length) != self.padded {
                return Err(OpenError::BadPadding);
            }
            self.length = Some(length);
            content = rest;
        }
        let length = self.length.ok_or(OpenError::BadPadding)?;
        let take = (length - self.given).min(content.len() as u64) as usize;
        let (content, padding) = content.split_at(take);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(OpenError::BadPadding);
        }
        out.extend_from_slice(content);
        self.given += take as u64;
        self.counter += 1;
        // The buffer is wiped when it is dropped; until then the next chunk overwrites it.
        self.buffer.clear();
        Ok(())
    }
}

/// Qc = H1_COND(PID, section class).
pub(crate) fn condition(consortium: &ConsortiumId, pid: &Pid, class: ClassCode) -> G1 {
    h1(
        hash::COND,
        consortium,
        &[pid.expose_bytes(), &class.to_enc()],
    )
}

/// r = Hs_R(s_D, nonce, author key, A).
pub(crate) fn author_exponent(
    consortium: &ConsortiumId,
    secret: &SealingSecret,
    nonce: &[u8; 32],
    author: &VerifyingKey,
    owner: &EncryptionPublicKey,
) -> Option<Scalar> {
    hs(
        hash::R,
        consortium,
        &[
            secret.expose_bytes(),
            nonce,
            author.as_bytes(),
            owner.as_bytes(),
        ],
    )
}

fn check_plans(plans: &[SectionPlan]) -> Result<(), SealError> {
    if plans.is_empty() {
        return Err(SealError::Empty);
    }
    if plans.len() > SECTIONS_MAX {
        return Err(SealError::TooManySections);
    }
    if plans.iter().any(|plan| plan.length > SECTION_BYTES_MAX) {
        return Err(SealError::TooLong);
    }
    let classes: std::collections::BTreeSet<_> = plans.iter().map(|plan| plan.class).collect();
    if classes.len() != plans.len() {
        return Err(SealError::RepeatedClass);
    }
    Ok(())
}

fn padded_length(length: u64) -> u64 {
    padme(length + LENGTH_BYTES)
}

/// Padme (Nikitin et al., PETS 2019): keeps the length's leading E/2 or so bits; at most 12 % more,
/// and lengths up to L fall into O(log log L) classes per power of two.
pub(crate) fn padme(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = 63 - length.leading_zeros();
    let significant = 32 - exponent.leading_zeros();
    let mask = (1u64 << (exponent - significant)) - 1;
    (length + mask) & !mask
}

fn chunk_count(padded: u64) -> u32 {
    u32::try_from(padded.div_ceil(CHUNK_BYTES as u64))
        .expect("a padded length below 2^41 has fewer than 2^26 chunks")
}

/// STREAM's nonce: 7 zero bytes, u32 counter, u8 last flag.
fn chunk_nonce(counter: u32, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&counter.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}
