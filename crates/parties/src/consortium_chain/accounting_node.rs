//! What an accounting node does for a grant: take it, search under it, re-encrypt under it.
//!
//! Before its share a node checks everything itself, once per grant and per access, in its own final
//! state. The list stands in `spec/scheme.md` section 12; its labels, N1 and so on, stand here at the
//! code of each check. Each check's refusal says what it was.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    Access, EncodedBlock, GrantEntry, GrantTransaction, Height, KeyHash, KeyStatus, KeyUse,
    NodeKeyTransaction, NodeSet, ReadError, Registrant, Role, Transaction, TransactionId,
    TransactionPosition, View,
};
use rand_core::CryptoRng;
use scheme::{
    Address, BadSignature, ClassPlace, ConsortiumId, Context, DecodeError, Decoder, Encoder,
    GRANT_BYTES_MAX, Grant, GrantId, HEADER_BYTES_MAX, Header, HpkePrivateKey, HpkePublicKey,
    InstitutionId, NodeNumber, NodePart, PartError, Purpose, ReEncryptedShare, RecordStatement,
    ShareProof, ShareStatement, Signature, SigningKey, Timestamp, ValidatorEpoch, VerifiedGrant,
    VerifiedHeader, VerifyingKey, sha256,
};
use thiserror::Error;

use super::query::{Hits, WriterKeys, locate, query};
use super::reply::{Reply, flag};
use crate::centre_keys::CentreKeys;
use crate::request::{AccessRequest, REQUEST_DRIFT_MS};

/// Grants that one node holds at once: 100,000 of some 10 KiB are 1 GiB.
const GRANTS_MAX: usize = 100_000;
/// Grants that one doctor's requests can bring a node in a day: a stroke team's, with a wide margin. A
/// grant names an episode that nobody can tie to a patient, so this is what bounds a doctor who
/// invents them.
const GRANTS_PER_DAY_MAX: u32 = 1_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A node's final chain, as the node's own store gives it.
pub trait FinalChain {
    /// The final state.
    fn view(&self) -> &dyn View;

    /// The block at a height, as it is stored; `None` above the last.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    fn block(&self, height: Height) -> Result<Option<EncodedBlock>, ReadError>;

    /// The transaction at a position. No other of its block is decoded.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails or lacks it.
    fn transaction(&self, position: TransactionPosition) -> Result<Transaction, ReadError> {
        let block = self.block(position.height)?.ok_or(ReadError::Missing {
            what: "block of a transaction",
        })?;
        block
            .transaction(position.index)?
            .ok_or(ReadError::Missing {
                what: "transaction of a block",
            })
    }
}

/// What a patient's or agent's device sends to every accounting node (`spec/formats.md`, M9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantPackage {
    /// The grant's bytes.
    pub grant: Vec<u8>,
    /// Its entry for the chain.
    pub entry: GrantEntry,
    /// By the revocation key.
    pub signature: Signature,
}

impl GrantPackage {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.var(&self.grant)
            .u64(self.entry.epoch.number())
            .u64(self.entry.not_before.number())
            .u64(self.entry.expiry.number());
        out.bytes(self.entry.revocation_key.as_bytes())
            .u8(self.entry.access_keys.len() as u8);
        for key in &self.entry.access_keys {
            out.bytes(key.as_bytes());
        }
        out.bytes(self.signature.as_bytes()).finish()
    }

    /// Decodes a package.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the grant's package";
        let mut from = Decoder::new(bytes);
        let grant = from.var("the grant", GRANT_BYTES_MAX)?.to_vec();
        let epoch = ValidatorEpoch::new(from.u64(WHAT)?);
        let not_before = Timestamp::new(from.u64(WHAT)?);
        let expiry = Timestamp::new(from.u64(WHAT)?);
        let revocation_key = VerifyingKey::new(from.array(WHAT)?);
        let count = from.count_u8("the access keys", scheme::GRANTEES_MAX)?;
        let access_keys = (0..count)
            .map(|_| Ok(VerifyingKey::new(from.array(WHAT)?)))
            .collect::<Result<_, DecodeError>>()?;
        let signature = Signature::new(from.array(WHAT)?);
        from.finish(WHAT)?;
        let entry = GrantEntry {
            revocation_key,
            grant: sha256(&grant),
            epoch,
            not_before,
            expiry,
            access_keys,
        };
        Ok(Self {
            grant,
            entry,
            signature,
        })
    }
}

/// Why a node refuses a grant. Nothing of it is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrantRefusal {
    /// The bytes are no grant or request.
    #[error("the grant is malformed")]
    Malformed(#[from] DecodeError),
    /// The owner of the episode did not sign it, nor an agent whom the owner appointed.
    #[error("the grant is not signed by the owner of its episode: make it again on that device")]
    Forged,
    /// The entry for the chain is not this grant's, or another grant has its revocation key.
    #[error(
        "the grant's entry does not fit the grant, or its revocation key has signed another one: make the grant again with a new key"
    )]
    Entry,
    /// The appointment has ended or was withdrawn, or ends before the grant does.
    #[error(
        "the family agent's appointment has ended or was withdrawn, or ends before the grant: the patient must appoint anew or grant"
    )]
    Agent,
    /// The request that it answers is not doctor B's, or not in time.
    #[error("the request that the grant answers does not stand")]
    Request(#[from] crate::request::RequestError),
    /// A doctor's certificate is not in force.
    #[error("the certificate of a doctor whom the grant names is not in force")]
    NotInForce,
    /// The access keys are not the request's.
    #[error(
        "the grant names other keys than the request that it answers: make it again from the request"
    )]
    Grantees,
    /// Node list, validator epoch or threshold are not the chain's.
    #[error("the grant does not name the chain's accounting nodes of this validator epoch")]
    Nodes,
    /// The threshold is outside f < t <= max(f + 1, n_acc - f) or below t_min.
    #[error("the grant's threshold is {found}; between {least} and {most} are possible")]
    Threshold {
        /// The grant's.
        found: usize,
        /// The smallest possible.
        least: usize,
        /// The largest possible.
        most: usize,
    },
    /// This node's part does not open or fit.
    #[error("this node's part of the grant does not stand")]
    Part(#[from] PartError),
    /// The chain does not have it, or has another one under its revocation key.
    #[error("the chain has not recorded this grant: only its patient or agent can give it")]
    NotRecorded,
    /// The chain says that it is over: revoked, or expired by the last block's time.
    #[error("the grant was revoked or has expired, by the chain: ask the patient for a new one")]
    Over,
    /// The node holds as many grants as it can.
    #[error("this node holds as many grants as it can: send the grant to another one")]
    Busy,
    /// The doctor's requests brought this node as many grants as it takes in a day.
    #[error(
        "this node takes no more grants today for one of the doctors: send the grant to another node or tomorrow"
    )]
    Quota,
    /// The validator epoch ended, or this node does not account.
    #[error("this node does not serve grants of that validator epoch")]
    NotServing,
    /// The node's store failed.
    #[error("the node's store failed")]
    Store(#[from] ReadError),
}

/// A reader's request to search under a grant, signed by the access key (`spec/formats.md`, M13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchRequest {
    /// The grant.
    pub gid: GrantId,
    /// The final height at which all nodes answer; not below the grant's.
    pub height: Height,
    /// Who asks.
    pub access_key: VerifyingKey,
    /// By the access key.
    pub signature: Signature,
}

impl SearchRequest {
    /// Bytes of the encoding.
    pub const BYTES: usize = 32 + 8 + 32 + 64;

    /// The reader signs.
    pub fn sign(consortium: &ConsortiumId, gid: GrantId, height: Height, key: &SigningKey) -> Self {
        let signature = key.sign(
            Context::Reading,
            consortium,
            &[b"search", gid.as_bytes(), &height.number().to_be_bytes()],
        );
        Self {
            gid,
            height,
            access_key: key.verifying_key(),
            signature,
        }
    }

    /// The bytes that travel, and that the replies answer.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.gid.as_bytes())
            .u64(self.height.number())
            .bytes(self.access_key.as_bytes())
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the search request";
        let mut from = Decoder::new(bytes);
        let request = Self {
            gid: GrantId::new(from.array(WHAT)?),
            height: Height::new(from.u64(WHAT)?),
            access_key: VerifyingKey::new(from.array(WHAT)?),
            signature: Signature::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(request)
    }

    /// N13.
    fn verify(&self, consortium: &ConsortiumId) -> Result<(), ShareRefusal> {
        let parts: [&[u8]; 3] = [
            b"search",
            self.gid.as_bytes(),
            &self.height.number().to_be_bytes(),
        ];
        self.access_key
            .verify(Context::Reading, consortium, &parts, &self.signature)
            .map_err(|_| ShareRefusal::Forged)
    }
}

/// A reader's request for the grant itself, whose bytes name doctors and purpose: nodes give them to
/// its own readers only (`spec/formats.md`, M18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantRequest {
    /// The grant.
    pub gid: GrantId,
    /// Who asks.
    pub access_key: VerifyingKey,
    /// By the access key.
    pub signature: Signature,
}

impl GrantRequest {
    /// The reader signs.
    pub fn sign(consortium: &ConsortiumId, gid: GrantId, key: &SigningKey) -> Self {
        let signature = key.sign(Context::Reading, consortium, &[b"grant", gid.as_bytes()]);
        Self {
            gid,
            access_key: key.verifying_key(),
            signature,
        }
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.gid.as_bytes())
            .bytes(self.access_key.as_bytes())
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the grant request";
        let mut from = Decoder::new(bytes);
        let request = Self {
            gid: GrantId::new(from.array(WHAT)?),
            access_key: VerifyingKey::new(from.array(WHAT)?),
            signature: Signature::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(request)
    }
}

/// A node's reply sealed to the reader's key of the grant (`spec/formats.md`, M14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedReply(pub Vec<u8>);

impl SealedReply {
    /// Opens the reply, on the reader's machine.
    ///
    /// # Errors
    /// [`DecodeError`] if it does not open or is malformed.
    pub fn open(
        &self,
        consortium: &ConsortiumId,
        gid: &GrantId,
        key: &HpkePrivateKey,
    ) -> Result<Reply, DecodeError> {
        let plain = key
            .open(Purpose::Reply, consortium, gid.as_bytes(), &self.0)
            .map_err(|_| DecodeError::Invalid {
                what: "the sealed reply",
                why: "it does not open under the grant's key",
            })?;
        Reply::decode(&plain)
    }
}

/// Whether a node shall prove that its share is the one it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantProof {
    /// Only the share.
    No,
    /// With a proof: after a key commitment did not fit.
    Yes,
}

/// Which access a share or container is asked for under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InTransaction {
    /// The access entry's transaction.
    pub access: TransactionId,
    /// The record's transaction.
    pub record: TransactionId,
}

/// A reader's request for shares of one record's granted sections (`spec/formats.md`, M15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRequest {
    /// The grant.
    pub gid: GrantId,
    /// The access on the chain and the record it names.
    pub of: InTransaction,
    /// j of each class that is asked for.
    pub classes: Vec<ClassPlace>,
    /// Whether to prove.
    pub proof: WantProof,
    /// Who asks.
    pub access_key: VerifyingKey,
    /// By the access key.
    pub signature: Signature,
}

impl ShareRequest {
    /// The reader signs.
    pub fn sign(
        consortium: &ConsortiumId,
        gid: GrantId,
        of: InTransaction,
        classes: Vec<ClassPlace>,
        proof: WantProof,
        key: &SigningKey,
    ) -> Self {
        let signature = Signature::new([0; 64]);
        let mut request = Self {
            gid,
            of,
            classes,
            proof,
            access_key: key.verifying_key(),
            signature,
        };
        request.signature = key.sign(Context::Reading, consortium, &[b"share", &request.body()]);
        request
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.body();
        out.extend_from_slice(self.signature.as_bytes());
        out
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the share request";
        let mut from = Decoder::new(bytes);
        let gid = GrantId::new(from.array(WHAT)?);
        let of = InTransaction {
            access: TransactionId::new(from.array(WHAT)?),
            record: TransactionId::new(from.array(WHAT)?),
        };
        let count = from.count_u8("the classes asked for", scheme::CLASSES_MAX)?;
        let classes = from
            .bytes(WHAT, count)?
            .iter()
            .map(|place| ClassPlace::new(*place))
            .collect();
        let proof = match flag(&mut from, WHAT)? {
            true => WantProof::Yes,
            false => WantProof::No,
        };
        let access_key = VerifyingKey::new(from.array(WHAT)?);
        let signature = Signature::new(from.array(WHAT)?);
        from.finish(WHAT)?;
        Ok(Self {
            gid,
            of,
            classes,
            proof,
            access_key,
            signature,
        })
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(self.gid.as_bytes())
            .bytes(self.of.access.as_bytes())
            .bytes(self.of.record.as_bytes())
            .u8(self.classes.len() as u8);
        for class in &self.classes {
            out.u8(class.place() as u8);
        }
        out.u8(u8::from(self.proof == WantProof::Yes))
            .bytes(self.access_key.as_bytes())
            .finish()
    }

    /// N13.
    fn verify(&self, consortium: &ConsortiumId) -> Result<(), ShareRefusal> {
        self.access_key
            .verify(
                Context::Reading,
                consortium,
                &[b"share", &self.body()],
                &self.signature,
            )
            .map_err(|_| ShareRefusal::Forged)
    }
}

/// A reader's request for the container of an access, to the master node (`spec/formats.md`, M17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerRequest {
    /// The grant.
    pub gid: GrantId,
    /// The access on the chain and the record it names.
    pub of: InTransaction,
    /// Who asks.
    pub access_key: VerifyingKey,
    /// By the access key.
    pub signature: Signature,
}

impl ContainerRequest {
    /// The reader signs.
    pub fn sign(
        consortium: &ConsortiumId,
        gid: GrantId,
        of: InTransaction,
        key: &SigningKey,
    ) -> Self {
        let parts: [&[u8]; 4] = [
            b"container",
            gid.as_bytes(),
            of.access.as_bytes(),
            of.record.as_bytes(),
        ];
        let signature = key.sign(Context::Reading, consortium, &parts);
        Self {
            gid,
            of,
            access_key: key.verifying_key(),
            signature,
        }
    }

    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.gid.as_bytes())
            .bytes(self.of.access.as_bytes())
            .bytes(self.of.record.as_bytes())
            .bytes(self.access_key.as_bytes())
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the container request";
        let mut from = Decoder::new(bytes);
        let request = Self {
            gid: GrantId::new(from.array(WHAT)?),
            of: InTransaction {
                access: TransactionId::new(from.array(WHAT)?),
                record: TransactionId::new(from.array(WHAT)?),
            },
            access_key: VerifyingKey::new(from.array(WHAT)?),
            signature: Signature::new(from.array(WHAT)?),
        };
        from.finish(WHAT)?;
        Ok(request)
    }

    /// N13.
    fn verify(&self, consortium: &ConsortiumId) -> Result<(), ShareRefusal> {
        let parts: [&[u8]; 4] = [
            b"container",
            self.gid.as_bytes(),
            self.of.access.as_bytes(),
            self.of.record.as_bytes(),
        ];
        self.access_key
            .verify(Context::Reading, consortium, &parts, &self.signature)
            .map_err(|_| ShareRefusal::Forged)
    }
}

/// Why a node does not search, re-encrypt or hand out. Each says what the reader can do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShareRefusal {
    /// The bytes are malformed.
    #[error("the request is malformed")]
    Malformed(#[from] DecodeError),
    /// The access key did not sign it.
    #[error("the request is not signed by the access key it names")]
    Forged,
    /// This node holds no such grant: it was never sent here, or its shares are deleted.
    #[error("this node holds no such grant: it ended, or was never sent here")]
    NoSuchGrant,
    /// The grant is not final on the chain, or another one is.
    #[error("the grant is not recorded on the chain")]
    NotRecorded,
    /// The patient revoked it.
    #[error("the patient revoked this grant: nothing more is opened under it")]
    Revoked,
    /// It has expired, by the chain's time.
    #[error("this grant has expired, by the chain's time: ask the patient again")]
    Expired(Timestamp),
    /// It is not valid yet.
    #[error("this grant is not valid yet, by the chain's time: ask again when it has begun")]
    NotYet,
    /// The access key is none of the grant's.
    #[error("this grant does not name the key that asks: ask with the key of the request")]
    NotGranted,
    /// The doctor's certificate is not in force any more.
    #[error("the doctor's certificate was revoked: ask the registration centre")]
    CertificateRevoked,
    /// The institution of a doctor whom the grant names belongs to the consortium no longer.
    #[error("institution {0}, whose doctor the grant names, has left the consortium")]
    InstitutionLeft(InstitutionId),
    /// A doctor's certificate has ended, by the chain's time.
    #[error(
        "the certificate of a doctor whom the grant names has ended: renew it at the registration centre and ask the patient again"
    )]
    CertificateEnded(Timestamp),
    /// The centre's key that signed a doctor's certificate was lost to others.
    #[error(
        "the certificate of a doctor whom the grant names is signed by a key of the registration centre that was lost to others: renew it there and ask the patient again"
    )]
    CertificateCompromised,
    /// The agent's appointment ended or was withdrawn.
    #[error(
        "the family agent's appointment has ended or was withdrawn: ask the patient for a grant"
    )]
    Agent,
    /// The height asked for is below the grant's or above this node's.
    #[error("this node cannot answer at height {0} yet: try again or ask at another height")]
    Height(Height),
    /// No access to this record stands on the chain under this key.
    #[error("no access of this key to this record is final on the chain: record it first")]
    NoAccess,
    /// The record is not one that this grant reaches.
    #[error("this grant does not reach that record")]
    NotReached,
    /// The record is another patient's or episode's than the grant's.
    #[error("that record does not belong to the episode of this grant")]
    ForeignRecord,
    /// The cloud has nothing at the record's address.
    #[error(
        "the cloud no longer has the container of this record: ask the hospital that stored it"
    )]
    NoContainer,
    /// The header is not the one on the chain: altered, cut short, or no header at all.
    #[error(
        "the container's header is not the one whose digest stands on the chain: the cloud altered it or cut it short, and no share is given for it"
    )]
    AlteredHeader,
    /// The header's maker did not know r, or names another author.
    #[error("the container's header was not made by the record's author")]
    ForeignHeader,
    /// The grant has no such class.
    #[error("this grant does not grant that section class: ask the patient for more")]
    NoSuchClass,
    /// The container's bytes are not the ones on the chain.
    #[error(
        "the file that the cloud returned is not the one that its author stored: nothing of it is given out"
    )]
    AlteredContainer,
    /// The author's signature does not stand.
    #[error("the author's signature of the record does not stand")]
    ForgedRecord,
    /// The node's store failed.
    #[error("the node's store failed")]
    Store(#[from] ReadError),
}

/// One class's share (`spec/formats.md`, M16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAnswer {
    /// j.
    pub class: ClassPlace,
    /// m.
    pub node: NodeNumber,
    /// W_m.
    pub share: ReEncryptedShare,
    /// Over (gid, transaction, hdr, j, m, U, W_m), and over the proof if there is one.
    pub signature: Signature,
    /// If it was asked for.
    pub proof: Option<ShareProof>,
}

impl ShareAnswer {
    /// A node's answer. The proof is signed with what it proves: otherwise a reader could hang a proof
    /// that fails on a node's honest share and show the two as evidence against it.
    pub fn sign(
        statement: &ShareStatement<'_>,
        header: &VerifiedHeader,
        proof: Option<ShareProof>,
        key: &SigningKey,
    ) -> Self {
        let signature = match &proof {
            None => statement.sign(header, key),
            Some(proof) => statement.sign_proved(header, proof, key),
        };
        Self {
            class: statement.class,
            node: statement.node,
            share: statement.share.clone(),
            signature,
            proof,
        }
    }

    /// Checks the node's signature of share and proof; whether the proof holds is another question.
    ///
    /// # Errors
    /// [`BadSignature`] if the node did not sign this share for this statement with this proof, or
    /// without one if there is none.
    pub fn verify(
        &self,
        statement: &ShareStatement<'_>,
        header: &VerifiedHeader,
        node: &VerifyingKey,
    ) -> Result<(), BadSignature> {
        match &self.proof {
            None => statement.verify(header, node, &self.signature),
            Some(proof) => statement.verify_proved(header, proof, node, &self.signature),
        }
    }

    /// The bytes that travel of several answers.
    pub fn encode_all(answers: &[Self]) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u8(answers.len() as u8);
        for answer in answers {
            out.u8(answer.class.place() as u8)
                .u8(answer.node.number())
                .bytes(&answer.share.to_bytes())
                .bytes(answer.signature.as_bytes());
            match &answer.proof {
                None => out.u8(0),
                Some(proof) => out.u8(1).bytes(&proof.to_bytes()),
            };
        }
        out.finish()
    }

    /// Decodes several answers.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        const WHAT: &str = "the re-encrypted shares";
        let mut from = Decoder::new(bytes);
        let count = from.count_u8(WHAT, scheme::CLASSES_MAX)?;
        let answers = (0..count)
            .map(|_| {
                let class = ClassPlace::new(from.u8(WHAT)?);
                let node = NodeNumber::new(from.u8(WHAT)?).ok_or(DecodeError::Invalid {
                    what: WHAT,
                    why: "node numbers begin at 1",
                })?;
                let share = ReEncryptedShare::from_bytes(&from.array(WHAT)?)?;
                let signature = Signature::new(from.array(WHAT)?);
                let proof = match flag(&mut from, WHAT)? {
                    false => None,
                    true => Some(ShareProof::from_bytes(
                        from.bytes(WHAT, ShareProof::BYTES)?,
                    )?),
                };
                Ok(Self {
                    class,
                    node,
                    share,
                    signature,
                    proof,
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        from.finish(WHAT)?;
        Ok(answers)
    }
}

/// A grant that this node holds. Its bytes lie in one file, apart from the chain and every backup.
struct Held {
    grant: VerifiedGrant,
    /// Of which validator epoch the HPKE key is that opened the part.
    sealed_to: ValidatorEpoch,
    part: NodePart,
    doctors: Vec<KeyHash>,
    /// The centre's keys that signed the doctors' certificates.
    issuers: Vec<VerifyingKey>,
    /// When the first of the doctors' certificates ends.
    certificates_end: Timestamp,
    /// Until when the request could be granted.
    request_end: Timestamp,
}

/// How a node's HPKE key stands on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKeyStanding {
    /// None stands, and the node has none.
    NotMade,
    /// None stands for its institution and validator epoch yet: [`AccountingNode::announce`] puts it
    /// there.
    NotAnnounced,
    /// Its own stands.
    Announced,
    /// One stands that this node does not have, and grants are sealed to that: it can open none of them.
    /// A key stays for its validator epoch, so the node needs the private key of the one that stands.
    AnotherStands {
        /// The chain's.
        standing: HpkePublicKey,
    },
}

/// How a grant came to be examined, which says when its request must have been in time.
#[derive(Clone, Copy)]
enum Arrival {
    /// It is received, at this time by the wall clock.
    Sent(Timestamp),
    /// It lies in its file, so it was in time when it was received.
    Kept,
}

/// What a node does for grants. It serves those of the validator epochs of which it has the HPKE key: one
/// that does not account has none.
pub struct AccountingNode {
    consortium: ConsortiumId,
    institution: InstitutionId,
    key: SigningKey,
    /// By their validator epochs.
    hpke: BTreeMap<ValidatorEpoch, HpkePrivateKey>,
    grants_max: usize,
    grants_per_day_max: u32,
    held: BTreeMap<GrantId, Held>,
    /// Day and number of the grants that each doctor's requests brought.
    brought: BTreeMap<KeyHash, (u64, u32)>,
    writer_keys: WriterKeys,
}

/// Shares that wait for the header of the record's container.
pub struct PendingShares {
    /// Where the container lies.
    pub address: Address,
    /// How many bytes of it to fetch: the longest header.
    pub header_bytes_max: usize,
    gid: GrantId,
    record: TransactionId,
    statement: RecordStatement,
    asked: SharesRequested,
}

/// What of them was asked for.
pub enum SharesRequested {
    /// Shares of these classes.
    Shares(Vec<ClassPlace>, WantProof),
    /// The container itself, from the master node.
    Container,
}

impl PendingShares {
    /// What the container must hash to.
    pub fn digest(&self) -> scheme::Digest {
        self.statement.digest
    }

    /// What was asked for.
    pub fn asked(&self) -> &SharesRequested {
        &self.asked
    }
}

impl AccountingNode {
    /// A node that serves no grants yet.
    pub fn new(consortium: ConsortiumId, institution: InstitutionId, key: SigningKey) -> Self {
        Self {
            consortium,
            institution,
            key,
            hpke: BTreeMap::new(),
            grants_max: GRANTS_MAX,
            grants_per_day_max: GRANTS_PER_DAY_MAX,
            held: BTreeMap::new(),
            brought: BTreeMap::new(),
            writer_keys: WriterKeys::new(),
        }
    }

    /// The same with room for fewer grants, and fewer a day for one doctor, on a small machine; never
    /// for more than 100,000 and 1,000.
    #[must_use]
    pub fn with_limits(mut self, grants_max: usize, grants_per_day_max: u32) -> Self {
        self.grants_max = grants_max.min(GRANTS_MAX);
        self.grants_per_day_max = grants_per_day_max.min(GRANTS_PER_DAY_MAX);
        self
    }

    /// The same with its HPKE key of a validator epoch.
    #[must_use]
    pub fn with_hpke_key(mut self, epoch: ValidatorEpoch, key: HpkePrivateKey) -> Self {
        self.add_hpke_key(epoch, key);
        self
    }

    /// Gives it its HPKE key of a validator epoch.
    pub fn add_hpke_key(&mut self, epoch: ValidatorEpoch, key: HpkePrivateKey) {
        self.hpke.insert(epoch, key);
    }

    /// Whether it has a key to which a grant of this validator epoch can be sealed.
    pub fn serves_in(&self, epoch: ValidatorEpoch) -> bool {
        self.hpke.range(..=epoch).next().is_some()
    }

    /// Whether it can serve any grant.
    pub fn serves(&self) -> bool {
        !self.hpke.is_empty()
    }

    /// Wipes the HPKE keys that no grant needs any more, and says of which validator epochs they were. What
    /// stands on the chain decides, since others seal to that: a key is sealed to until a later one of
    /// this node stands, in grants that can come to be recorded until the end of the epoch after that
    /// one's (chain G5). One that never came to stand is sealed to by nobody. A key that opened a grant
    /// which the node holds stays. The caller removes their files and syncs, and tries again until it
    /// has.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    pub fn forget_hpke_keys(
        &mut self,
        current: ValidatorEpoch,
        chain: &dyn FinalChain,
    ) -> Result<Vec<ValidatorEpoch>, ReadError> {
        let needed: BTreeSet<_> = self.held.values().map(|held| held.sealed_to).collect();
        let mut standing = BTreeSet::new();
        for epoch in self.hpke.keys() {
            if self.key_standing(*epoch, chain)? == NodeKeyStanding::Announced {
                standing.insert(*epoch);
            }
        }
        let long_ago = |epoch: &ValidatorEpoch| epoch.number().saturating_add(1) < current.number();
        let over = |epoch: &ValidatorEpoch| {
            let mut later = standing.iter().filter(|later| *later > epoch);
            match standing.contains(epoch) {
                true => later.any(long_ago),
                false => long_ago(epoch),
            }
        };
        let ended: Vec<_> = self
            .hpke
            .keys()
            .copied()
            .filter(|epoch| over(epoch) && !needed.contains(epoch))
            .collect();
        self.hpke.retain(|epoch, _| !ended.contains(epoch));
        Ok(ended)
    }

    /// The validator epochs of the two in which a key can come to stand on the chain, this one and the
    /// next, of which this node needs one by what the chain knows now: to account in it, or to take its
    /// seat.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    pub fn needs_keys_of(&self, chain: &dyn FinalChain) -> Result<Vec<ValidatorEpoch>, ReadError> {
        let view = chain.view();
        let height = ledger::tip(view)?.height.next();
        let current = ledger::charter(view)?.settings.epoch_of(height);
        let seated =
            ledger::node_set(view, current)?.ok_or(ReadError::Missing { what: "node set" })?;
        let mut epochs = Vec::new();
        let own = self.key.verifying_key();
        let seat = seated.by_key(&own);
        if seat.is_some_and(|node| node.tier.role() == Role::Accounting) {
            epochs.push(current);
        }
        let held = ledger::institution(view, self.institution)?;
        let held = held.map(|held| ledger::Node::of(&held));
        if held.is_some_and(|node| node.key == own && seated.needs_next_key(&node)) {
            epochs.push(ValidatorEpoch::new(current.number().saturating_add(1)));
        }
        Ok(epochs)
    }

    /// The transaction that puts its HPKE key of a validator epoch on the chain, so that a grant can be
    /// sealed to it also while it is down; `None` if it has none.
    pub fn announce(&self, epoch: ValidatorEpoch) -> Option<Transaction> {
        let key = self.hpke.get(&epoch)?;
        Some(Transaction::NodeKey(NodeKeyTransaction::sign(
            &self.consortium,
            self.institution,
            epoch,
            key.public_key(),
            &self.key,
        )))
    }

    /// How its HPKE key of a validator epoch stands on the chain.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    pub fn key_standing(
        &self,
        epoch: ValidatorEpoch,
        chain: &dyn FinalChain,
    ) -> Result<NodeKeyStanding, ReadError> {
        let standing = ledger::node_key(chain.view(), epoch, self.institution)?;
        let node = self.key.verifying_key();
        let standing = standing.filter(|state| state.node == node);
        let own = self.hpke.get(&epoch).map(HpkePrivateKey::public_key);
        Ok(match (own, standing.map(|state| state.key)) {
            (None, None) => NodeKeyStanding::NotMade,
            (Some(_), None) => NodeKeyStanding::NotAnnounced,
            (Some(own), Some(standing)) if standing == own => NodeKeyStanding::Announced,
            (_, Some(standing)) => NodeKeyStanding::AnotherStands { standing },
        })
    }

    /// Takes a grant after all checks that can be made once, and countersigns its entry. The caller
    /// writes `package.grant` to the grant's own file before it hands the transaction on; if that
    /// fails, it gives a grant that was not held before up again ([`AccountingNode::give_up`]).
    ///
    /// # Errors
    /// [`GrantRefusal`]; nothing is kept.
    pub fn receive_grant(
        &mut self,
        package: &GrantPackage,
        chain: &dyn FinalChain,
        now: Timestamp,
    ) -> Result<(GrantId, Transaction), GrantRefusal> {
        let held = self.examine(&package.grant, chain, Arrival::Sent(now))?;
        self.check_entry(package, &held, chain)?;
        let gid = held.grant.gid();
        if !self.held.contains_key(&gid) {
            // N12
            if self.held.len() >= self.grants_max {
                return Err(GrantRefusal::Busy);
            }
            self.count(&held.doctors, now)?;
            self.held.insert(gid, held);
        }
        let transaction = Transaction::Grant(GrantTransaction::countersign(
            &self.consortium,
            package.entry.clone(),
            package.signature,
            self.institution,
            &self.key,
        ));
        Ok((gid, transaction))
    }

    /// Takes a grant that the chain has recorded from whoever has its bytes, most often the doctor, to whom
    /// this node could not answer: it was away when the grant was given, or was given another one. The chain
    /// has the grant's digest and t nodes took it, so that neither an entry nor a quota is asked for. The caller
    /// writes its file, as after [`Self::receive_grant`].
    ///
    /// # Errors
    /// [`GrantRefusal`]; nothing is kept.
    pub fn receive_recorded_grant(
        &mut self,
        grant: &[u8],
        chain: &dyn FinalChain,
    ) -> Result<GrantId, GrantRefusal> {
        // Before anything that takes time: who has no grant of the chain cannot make this node work.
        let gid = Grant::decode(&self.consortium, grant)?.gid(&self.consortium);
        let digest = sha256(grant);
        let recorded = ledger::grant(chain.view(), gid)?;
        if recorded.is_none_or(|state| state.grant != digest) {
            return Err(GrantRefusal::NotRecorded);
        }
        if grant_is_over(chain, &gid)? {
            return Err(GrantRefusal::Over);
        }
        let held = self.held.get(&gid);
        if held.is_some_and(|held| held.grant.digest() == digest) {
            return Ok(gid);
        }
        // N12
        if held.is_none() && self.held.len() >= self.grants_max {
            return Err(GrantRefusal::Busy);
        }
        let held = self.examine(grant, chain, Arrival::Kept)?;
        self.held.insert(gid, held);
        Ok(gid)
    }

    /// Takes a grant again from its file, after a restart. What must be in time is checked as of the
    /// block that recorded the grant, and not by a clock.
    ///
    /// # Errors
    /// [`GrantRefusal`]. It says nothing of whether the grant is over: the caller keeps the file unless
    /// the chain says so ([`grant_is_over`]).
    pub fn restore_grant(
        &mut self,
        grant: &[u8],
        chain: &dyn FinalChain,
    ) -> Result<GrantId, GrantRefusal> {
        let held = self.examine(grant, chain, Arrival::Kept)?;
        let gid = held.grant.gid();
        self.held.insert(gid, held);
        Ok(gid)
    }

    /// Whether the node holds this grant.
    pub fn holds(&self, gid: &GrantId) -> bool {
        self.held.contains_key(gid)
    }

    /// Lets go of a grant whose file could not be written.
    pub fn give_up(&mut self, gid: &GrantId) {
        self.held.remove(gid);
    }

    /// Forgets the grants that are over by the chain: revoked, or expired by the last block's time;
    /// and those that never became final while the request that they answer could be granted, a minute
    /// for clocks included, or while the chain takes grants of their validator epoch. The caller removes
    /// their files and syncs, and tries again until it has.
    ///
    /// # Errors
    /// [`ReadError`] if the store fails.
    pub fn forget_ended(&mut self, chain: &dyn FinalChain) -> Result<Vec<GrantId>, ReadError> {
        let tip = ledger::tip(chain.view())?;
        let time = tip.time;
        let epoch = ledger::charter(chain.view())?
            .settings
            .epoch_of(tip.height.next());
        let mut over = Vec::new();
        for (gid, held) in &self.held {
            let ended = match ledger::grant(chain.view(), *gid)? {
                Some(state) => {
                    state.grant != held.grant.digest()
                        || state.revoked.is_some()
                        || time >= state.expiry
                }
                None => {
                    let terms = held.grant.terms();
                    time > with_drift(held.request_end)
                        || time >= terms.expiry
                        || terms.validator_epoch.number().saturating_add(1) < epoch.number()
                }
            };
            if ended {
                over.push(*gid);
            }
        }
        for gid in &over {
            self.held.remove(gid);
        }
        Ok(over)
    }

    /// How many grants the node holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Checks that the holder of a grant's access key asks for the grant; the caller then reads its
    /// file.
    ///
    /// # Errors
    /// [`ShareRefusal`].
    pub fn may_fetch(
        &self,
        request: &GrantRequest,
        chain: &dyn FinalChain,
    ) -> Result<(), ShareRefusal> {
        // N13
        request
            .access_key
            .verify(
                Context::Reading,
                &self.consortium,
                &[b"grant", request.gid.as_bytes()],
                &request.signature,
            )
            .map_err(|_| ShareRefusal::Forged)?;
        self.serving(&request.gid, &request.access_key, chain)
            .map(|_| ())
    }

    /// Equation (13): what the grant reaches at the height asked for, signed, sealed to the reader.
    ///
    /// # Errors
    /// [`ShareRefusal`].
    pub fn search(
        &self,
        request: &SearchRequest,
        chain: &dyn FinalChain,
        rng: &mut impl CryptoRng,
    ) -> Result<SealedReply, ShareRefusal> {
        request.verify(&self.consortium)?;
        let held = self.serving(&request.gid, &request.access_key, chain)?;
        let tip = ledger::tip(chain.view())?;
        let recorded = ledger::grant(chain.view(), request.gid)?
            .ok_or(ShareRefusal::NotRecorded)?
            .recorded
            .height;
        // N17
        if request.height > tip.height || request.height < recorded {
            return Err(ShareRefusal::Height(request.height));
        }
        let reach = &held.part.reach;
        let hits = Hits(query(
            &self.consortium,
            chain.view(),
            reach,
            request.height,
            &self.writer_keys,
        )?);
        let root = chain
            .block(request.height)?
            .ok_or(ReadError::Missing {
                what: "block at a final height",
            })?
            .header()
            .map_err(ReadError::from)?
            .state_root;
        let reply = Reply::sign(
            &self.consortium,
            self.institution,
            &self.key,
            &request.encode(),
            request.height,
            root,
            hits.encode(),
        );
        self.seal_reply(held, &request.access_key, &request.gid, &reply, rng)
    }

    /// The checks of one access against the chain; then the service fetches the header from the
    /// cloud and calls [`AccountingNode::shares`].
    ///
    /// # Errors
    /// [`ShareRefusal`].
    pub fn begin_shares(
        &self,
        request: &ShareRequest,
        chain: &dyn FinalChain,
    ) -> Result<PendingShares, ShareRefusal> {
        request.verify(&self.consortium)?;
        let asked = SharesRequested::Shares(request.classes.clone(), request.proof);
        self.begin(&request.gid, &request.access_key, request.of, asked, chain)
    }

    /// The same checks for the container itself, at the master node.
    ///
    /// # Errors
    /// [`ShareRefusal`].
    pub fn begin_container(
        &self,
        request: &ContainerRequest,
        chain: &dyn FinalChain,
    ) -> Result<PendingShares, ShareRefusal> {
        request.verify(&self.consortium)?;
        self.begin(
            &request.gid,
            &request.access_key,
            request.of,
            SharesRequested::Container,
            chain,
        )
    }

    /// Equation (15), once the header is here: hdr, consortium, author, institution, V; only then
    /// U, and a share for each class asked for. The state is checked again, since a revocation can
    /// have become final in between.
    ///
    /// # Errors
    /// [`ShareRefusal`].
    pub fn shares(
        &self,
        pending: &PendingShares,
        access_key: &VerifyingKey,
        container_start: &[u8],
        chain: &dyn FinalChain,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<ShareAnswer>, ShareRefusal> {
        // N25
        let held = self.serving(&pending.gid, access_key, chain)?;
        let SharesRequested::Shares(classes, want) = &pending.asked else {
            return Err(ShareRefusal::NoSuchClass);
        };
        let statement = &pending.statement;
        // N21: what is no header cannot be the one on the chain either.
        let (header, length) = Header::decode(&self.consortium, container_start)
            .map_err(|_| ShareRefusal::AlteredHeader)?;
        if sha256(&container_start[..length]) != statement.header_digest {
            return Err(ShareRefusal::AlteredHeader);
        }
        // N22; the consortium was compared in decoding.
        if header.author() != statement.author || header.institution() != statement.institution {
            return Err(ShareRefusal::ForeignHeader);
        }
        // N23
        let header = header.verify().map_err(|_| ShareRefusal::ForeignHeader)?;
        let record = pending.record.digest();
        classes
            .iter()
            .map(|class| {
                // N24
                let share = held
                    .part
                    .shares
                    .get(class.place())
                    .ok_or(ShareRefusal::NoSuchClass)?;
                let w = share.re_encrypt(&header);
                let statement = ShareStatement {
                    consortium: &self.consortium,
                    gid: &pending.gid,
                    transaction: &record,
                    header_digest: &statement.header_digest,
                    class: *class,
                    node: held.part.node,
                    share: &w,
                };
                let proof =
                    (*want == WantProof::Yes).then(|| share.prove(&statement, &header, rng));
                Ok(ShareAnswer::sign(&statement, &header, proof, &self.key))
            })
            .collect()
    }

    /// The master node's two-step verification: the container's whole digest is the one on the chain
    /// and the author signed it. Only then is a byte of it given out.
    ///
    /// # Errors
    /// [`ShareRefusal::AlteredContainer`], [`ShareRefusal::ForgedRecord`], or that the grant ended.
    pub fn release_container(
        &self,
        pending: &PendingShares,
        access_key: &VerifyingKey,
        found: scheme::Digest,
        doctor: &Signature,
        chain: &dyn FinalChain,
    ) -> Result<(), ShareRefusal> {
        // N25
        self.serving(&pending.gid, access_key, chain)?;
        // N26
        if found != pending.statement.digest {
            return Err(ShareRefusal::AlteredContainer);
        }
        pending
            .statement
            .verify(&self.consortium, doctor)
            .map_err(|_| ShareRefusal::ForgedRecord)
    }

    /// The author's signature of a pending record, from the chain.
    ///
    /// # Errors
    /// [`ShareRefusal`] if the record is not there.
    pub fn author_signature(
        &self,
        pending: &PendingShares,
        chain: &dyn FinalChain,
    ) -> Result<Signature, ShareRefusal> {
        let position =
            ledger::transaction(chain.view(), pending.record)?.ok_or(ShareRefusal::NotReached)?;
        match chain.transaction(position)? {
            Transaction::Record(record) => Ok(record.doctor),
            _ => Err(ShareRefusal::NotReached),
        }
    }

    /// N12: counts a new grant for each doctor of its request; nothing is counted if one has no more.
    fn count(&mut self, doctors: &[KeyHash], now: Timestamp) -> Result<(), GrantRefusal> {
        let day = now.number() / DAY_MS;
        self.brought.retain(|_, (counted, _)| *counted == day);
        let used = |hash: &KeyHash| self.brought.get(hash).map_or(0, |(_, number)| *number);
        let most = self.grants_per_day_max;
        if doctors.iter().any(|hash| used(hash) >= most) {
            return Err(GrantRefusal::Quota);
        }
        for hash in doctors {
            self.brought.entry(*hash).or_insert((day, 0)).1 += 1;
        }
        Ok(())
    }

    fn begin(
        &self,
        gid: &GrantId,
        access_key: &VerifyingKey,
        of: InTransaction,
        asked: SharesRequested,
        chain: &dyn FinalChain,
    ) -> Result<PendingShares, ShareRefusal> {
        let held = self.serving(gid, access_key, chain)?;
        self.check_access(held, access_key, of, chain)?;
        // N19
        let view = chain.view();
        let position = ledger::transaction(view, of.record)?.ok_or(ShareRefusal::NotReached)?;
        let Transaction::Record(record) = chain.transaction(position)? else {
            return Err(ShareRefusal::NotReached);
        };
        let statement = record.statement;
        let locator = locate(&self.consortium, view, &held.part.reach, &statement)?
            .ok_or(ShareRefusal::NotReached)?;
        // N20
        let episode = statement
            .owner_key
            .unblind(&locator.delta)
            .map_err(|_| ShareRefusal::ForeignRecord)?;
        if episode != held.grant.terms().episode_key {
            return Err(ShareRefusal::ForeignRecord);
        }
        Ok(PendingShares {
            address: locator.address,
            header_bytes_max: HEADER_BYTES_MAX,
            gid: *gid,
            record: of.record,
            statement,
            asked,
        })
    }

    /// N18: the access entry is final, of this key, and names this record under its mask.
    fn check_access(
        &self,
        held: &Held,
        access_key: &VerifyingKey,
        of: InTransaction,
        chain: &dyn FinalChain,
    ) -> Result<(), ShareRefusal> {
        let position =
            ledger::transaction(chain.view(), of.access)?.ok_or(ShareRefusal::NoAccess)?;
        let Transaction::Access(Access { entries }) = chain.transaction(position)? else {
            return Err(ShareRefusal::NoAccess);
        };
        let named = entries.iter().any(|entry| {
            let masked = scheme::Digest::new(*entry.masked.as_bytes());
            &entry.access_key == access_key
                && held.part.log_key.mask(
                    &self.consortium,
                    access_key,
                    entry.number.number(),
                    entry.pad.as_bytes(),
                    &masked,
                ) == of.record.digest()
        });
        if named {
            Ok(())
        } else {
            Err(ShareRefusal::NoAccess)
        }
    }

    /// The grant, if it serves this key now (N14 to N16): recorded as held, not revoked, in its time by
    /// the last block, its doctors' certificates and its agent's appointment in force. Asked at each
    /// access, and again just before a share is computed or a container released (N25).
    fn serving(
        &self,
        gid: &GrantId,
        access_key: &VerifyingKey,
        chain: &dyn FinalChain,
    ) -> Result<&Held, ShareRefusal> {
        let view = chain.view();
        // N14
        let state = ledger::grant(view, *gid)?;
        if state.as_ref().is_some_and(|state| state.revoked.is_some()) {
            return Err(ShareRefusal::Revoked);
        }
        let tip = ledger::tip(view)?;
        if let Some(state) = &state
            && tip.time >= state.expiry
        {
            return Err(ShareRefusal::Expired(state.expiry));
        }
        let held = self.held.get(gid).ok_or(ShareRefusal::NoSuchGrant)?;
        let state = state
            .filter(|state| state.grant == held.grant.digest())
            .ok_or(ShareRefusal::NotRecorded)?;
        if tip.time < state.not_before {
            return Err(ShareRefusal::NotYet);
        }
        if !state.access.iter().any(|(key, _)| key == access_key) {
            return Err(ShareRefusal::NotGranted);
        }
        // N15
        for hash in &held.doctors {
            let key = ledger::user_key(view, *hash)?.ok_or(ShareRefusal::CertificateRevoked)?;
            if key.status != KeyStatus::InForce {
                return Err(ShareRefusal::CertificateRevoked);
            }
            if let Registrant::Doctor { institution, .. } = key.registrant
                && ledger::institution(view, institution)?.is_none()
            {
                return Err(ShareRefusal::InstitutionLeft(institution));
            }
        }
        let centre = CentreKeys::of_state(view)?;
        if !held.issuers.iter().all(|key| centre.accepts(key)) {
            return Err(ShareRefusal::CertificateCompromised);
        }
        if tip.time > held.certificates_end {
            return Err(ShareRefusal::CertificateEnded(held.certificates_end));
        }
        // N16
        if let Some(appointment) = held.grant.appointment() {
            let withdrawn = ledger::withdrawal(view, appointment.terms().id)?.is_some();
            if withdrawn || tip.time >= appointment.terms().end {
                return Err(ShareRefusal::Agent);
            }
        }
        Ok(held)
    }

    /// The entry is the grant's, the chain holds no other grant of this revocation key, and says
    /// neither that it was revoked nor that it has expired (N10, N11).
    fn check_entry(
        &self,
        package: &GrantPackage,
        held: &Held,
        chain: &dyn FinalChain,
    ) -> Result<(), GrantRefusal> {
        let (gid, terms) = (held.grant.gid(), held.grant.terms());
        let entry = &package.entry;
        let mut keys: Vec<VerifyingKey> = terms
            .grantees
            .iter()
            .map(|grantee| grantee.access_key)
            .collect();
        keys.sort_unstable();
        if entry.grant != held.grant.digest()
            || entry.revocation_key != terms.revocation_key
            || entry.epoch != terms.validator_epoch
            || (entry.not_before, entry.expiry) != (terms.not_before, terms.expiry)
            || entry.access_keys != keys
            || entry.verify(&self.consortium, &package.signature).is_err()
        {
            return Err(GrantRefusal::Entry);
        }
        let other = |known: &Held| known.grant.digest() != held.grant.digest();
        if self.held.get(&gid).is_some_and(other) {
            return Err(GrantRefusal::Entry);
        }
        let time = ledger::tip(chain.view())?.time;
        match ledger::grant(chain.view(), gid)? {
            Some(state) if state.grant != held.grant.digest() => Err(GrantRefusal::Entry),
            Some(state) if state.revoked.is_some() => Err(GrantRefusal::Over),
            _ if time >= terms.expiry => Err(GrantRefusal::Over),
            _ => Ok(()),
        }
    }

    /// N1 to N9: what is checked once per grant, and again when it is taken from its file.
    fn examine(
        &self,
        bytes: &[u8],
        chain: &dyn FinalChain,
        arrival: Arrival,
    ) -> Result<Held, GrantRefusal> {
        let view = chain.view();
        // N1
        let grant = Grant::decode(&self.consortium, bytes)?
            .verify(&self.consortium)
            .map_err(|_| GrantRefusal::Forged)?;
        let terms = grant.terms();
        // N2
        if !self
            .hpke
            .keys()
            .any(|epoch| *epoch <= terms.validator_epoch)
        {
            return Err(GrantRefusal::NotServing);
        }
        let request = AccessRequest::decode(&terms.request)?;
        let at = self.moment(&grant, &request, chain, arrival)?;
        // N3
        if let Some(appointment) = grant.appointment() {
            let withdrawn = ledger::withdrawal(view, appointment.terms().id)?.is_some();
            if withdrawn || at >= appointment.terms().end || terms.expiry > appointment.terms().end
            {
                return Err(GrantRefusal::Agent);
            }
        }
        // N4
        let centre = CentreKeys::of_state(view)?;
        let request = request.verify(&self.consortium, &centre, at)?;
        // N5
        if !(0..request.grants_max())
            .any(|place| request.grantees(place).as_ref() == Some(&terms.grantees))
        {
            return Err(GrantRefusal::Grantees);
        }
        // N6
        let doctors = request.key_hashes();
        for (hash, doctor) in doctors.iter().zip(request.doctors()) {
            let expected = Registrant::Doctor {
                institution: doctor.institution,
                doctor: doctor.id,
            };
            let in_force = ledger::user_key(view, *hash)?.is_some_and(|key| {
                key.status == KeyStatus::InForce
                    && key.usage == KeyUse::Signature
                    && key.registrant == expected
            });
            if !in_force || ledger::institution(view, doctor.institution)?.is_none() {
                return Err(GrantRefusal::NotInForce);
            }
        }
        // N7
        let nodes = ledger::node_set(view, terms.validator_epoch)?;
        let nodes = nodes.ok_or(GrantRefusal::NotServing)?;
        let own = check_nodes(terms, &nodes, self.institution)?;
        // N8
        check_threshold(
            terms.threshold.count(),
            &nodes,
            ledger::charter(view)?.settings.threshold_min.count(),
        )?;
        // N7
        let named = terms.nodes[usize::from(own.number()) - 1].hpke_key;
        let mut keys = self.hpke.range(..=terms.validator_epoch).rev();
        let found = keys.find(|(_, key)| key.public_key() == named);
        let (sealed_to, hpke) = found.ok_or(GrantRefusal::Nodes)?;
        // N9
        let part = grant.open_node_part(&self.consortium, own, hpke)?;
        Ok(Held {
            sealed_to: *sealed_to,
            part,
            doctors,
            issuers: request.issuers().to_vec(),
            certificates_end: request.certificates_end(),
            request_end: request.terms().not_after,
            grant,
        })
    }

    /// When the request must have been in time (N4). A grant that the chain holds was given no later
    /// than it was recorded, so the block's time stands for it: whoever sends or dates a grant has no
    /// say in it, and a node that was down can still be given one. One that the chain does not hold
    /// must be in time when it comes.
    fn moment(
        &self,
        grant: &VerifiedGrant,
        request: &AccessRequest,
        chain: &dyn FinalChain,
        arrival: Arrival,
    ) -> Result<Timestamp, ReadError> {
        let terms = request.terms_unverified();
        if let Some(state) = ledger::grant(chain.view(), grant.gid())?
            && state.grant == grant.digest()
        {
            let recorded = state.recorded.time;
            // A block comes a little after what it holds.
            let in_time = recorded <= with_drift(terms.not_after);
            return Ok(if in_time {
                recorded.min(terms.not_after)
            } else {
                recorded
            });
        }
        Ok(match arrival {
            Arrival::Sent(now) => now,
            Arrival::Kept => terms.time,
        })
    }

    fn seal_reply(
        &self,
        held: &Held,
        access_key: &VerifyingKey,
        gid: &GrantId,
        reply: &Reply,
        rng: &mut impl CryptoRng,
    ) -> Result<SealedReply, ShareRefusal> {
        let grantee = held
            .grant
            .terms()
            .grantees
            .iter()
            .find(|grantee| &grantee.access_key == access_key)
            .ok_or(ShareRefusal::NotGranted)?;
        grantee
            .hpke_key
            .seal(
                Purpose::Reply,
                &self.consortium,
                gid.as_bytes(),
                &reply.encode(),
                rng,
            )
            .map(SealedReply)
            .map_err(|_| ShareRefusal::NotGranted)
    }
}

/// Whether a grant can never be served again, by the chain: it was revoked, or has expired by the last
/// block's time. A grant that the chain does not know is not over.
///
/// # Errors
/// [`ReadError`] if the store fails.
pub fn grant_is_over(chain: &dyn FinalChain, gid: &GrantId) -> Result<bool, ReadError> {
    let Some(state) = ledger::grant(chain.view(), *gid)? else {
        return Ok(false);
    };
    Ok(state.revoked.is_some() || ledger::tip(chain.view())?.time >= state.expiry)
}

/// A moment on the latest clock that may be asked.
fn with_drift(moment: Timestamp) -> Timestamp {
    Timestamp::new(moment.number().saturating_add(REQUEST_DRIFT_MS))
}

/// The grant names exactly the chain's accounting nodes, in their order; gives this node's number.
fn check_nodes(
    terms: &scheme::GrantTerms,
    nodes: &NodeSet,
    own: InstitutionId,
) -> Result<NodeNumber, GrantRefusal> {
    let accounting: Vec<_> = nodes.accounting().collect();
    if accounting.len() != terms.nodes.len()
        || accounting
            .iter()
            .zip(&terms.nodes)
            .any(|(node, named)| node.key != named.key)
    {
        return Err(GrantRefusal::Nodes);
    }
    let place = accounting
        .iter()
        .position(|node| node.institution == own)
        .ok_or(GrantRefusal::NotServing)?;
    u8::try_from(place + 1)
        .ok()
        .and_then(NodeNumber::new)
        .ok_or(GrantRefusal::Nodes)
}

/// f < t <= max(f + 1, n_acc - f) and t >= t_min.
fn check_threshold(
    found: usize,
    nodes: &NodeSet,
    threshold_min: usize,
) -> Result<(), GrantRefusal> {
    let (least, most) = threshold_range(nodes, threshold_min);
    if found < least || found > most {
        return Err(GrantRefusal::Threshold { found, least, most });
    }
    Ok(())
}

/// The thresholds that a grant can have among these nodes.
pub(crate) fn threshold_range(nodes: &NodeSet, threshold_min: usize) -> (usize, usize) {
    let least = nodes.quorum().one_correct().max(threshold_min);
    (least, nodes.highest_threshold())
}
