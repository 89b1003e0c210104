//! Proofs that verify without the chain (`spec/chain.md` section 9): that a block is final, that a
//! transaction stands in it, what the state after it says, that a record is on the chain, that a
//! block is anchored. Each step gives what the next one needs: a finality proof gives a header, the
//! header gives Merkle root and state root.

use scheme::{ConsortiumId, DecodeError, Decoder, Digest, Encoder, ValidatorEpoch};
use thiserror::Error;

use crate::anchoring::anchored_leaf;
use crate::block::{self, Block, Header};
use crate::execute::MOTIONS_OPEN_MAX;
use crate::genesis::Settings;
use crate::identity::{BlockId, Height, LeaderView, RecordNumber, StateRoot, TransactionId};
use crate::keys;
use crate::log::{self, RecordLog};
use crate::merkle::{MerklePath, Tree};
use crate::policy::{NODES_MAX, NodeSet};
use crate::state::{
    self, AnchorState, CentreKeyList, Charter, ContactState, GrantState, InstitutionList,
    InstitutionState, Moment, MotionState, NodeKeyState, OpenMotions, ReadError, RequestState,
    RulesState, UserKeyState, WriterEpochState,
};
use crate::transaction::{Anchor, TRANSACTION_BYTES_MAX, Transaction};
use crate::trie::{self, TriePath};
use crate::view::View;

/// Why a proof does not stand. Whoever handed it over is wrong or lying; ask another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The bytes are no proof.
    #[error("the proof cannot be read; ask another node")]
    Decode(#[from] DecodeError),
    /// The header is of another consortium.
    #[error("the header belongs to another consortium; ask another node")]
    Consortium,
    /// The node set is not the one of the header's validator epoch.
    #[error("the node set is not that of the header's validator epoch; obtain that one")]
    Epoch,
    /// The certificate does not prove the header final.
    #[error("the certificate does not stand for this header and node set; ask another node")]
    Certificate,
    /// The way does not lead to the root.
    #[error("the proof does not lead to the {0}; ask another node")]
    Root(&'static str),
}

/// What the engine's certificates are verified by. The chain crate, which alone knows their bytes and
/// signed text, implements it.
pub trait CertificateVerifier {
    /// Whether `certificate` proves that at least [`Quorum::certificate`](crate::Quorum::certificate)
    /// nodes of `nodes` finalized `block` in the set's validator epoch, in this view, in which the block was
    /// first proposed, or a later one.
    ///
    /// # Errors
    /// [`BadCertificate`] if it does not.
    fn verify(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        view: LeaderView,
        block: BlockId,
        certificate: &[u8],
    ) -> Result<(), BadCertificate>;
}

/// A certificate that does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the certificate does not stand for this block and node set")]
pub struct BadCertificate;

/// That a block is final: the headers from it to one that has a certificate, each the parent of the
/// next, and that certificate. Mostly there is one header; a block that became final only with a
/// later one has no certificate of its own. So a run of blocks is proved by one certificate too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalityProof {
    /// Before the block with the certificate, lowest first.
    earlier: Vec<Header>,
    certified: Header,
    certificate: Vec<u8>,
}

impl FinalityProof {
    /// How many headers a proof may hold: 66 KiB of them.
    pub const HEADERS_MAX: usize = 256;

    /// From a final block's header and its certificate, as the engine encodes it.
    pub fn new(header: Header, certificate: Vec<u8>) -> Self {
        Self {
            earlier: Vec::new(),
            certified: header,
            certificate,
        }
    }

    /// From headers of which the last is that of the certificate's block. `None` if there is none, or
    /// more than [`Self::HEADERS_MAX`].
    pub fn of_run(mut headers: Vec<Header>, certificate: Vec<u8>) -> Option<Self> {
        if headers.len() > Self::HEADERS_MAX {
            return None;
        }
        let certified = headers.pop()?;
        Some(Self {
            earlier: headers,
            certified,
            certificate,
        })
    }

    /// The header of the final block: the first.
    ///
    /// # Errors
    /// As of [`Self::verify_run`].
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        verifier: &impl CertificateVerifier,
    ) -> Result<&Header, ProofError> {
        self.verify_run(consortium, nodes, verifier)?;
        Ok(self.unverified_header())
    }

    /// The headers of all blocks that are proved final, lowest first.
    ///
    /// # Errors
    /// [`ProofError`] unless `nodes` is the set of the last header's validator epoch, the certificate
    /// stands for it, and each header is the parent of the next.
    pub fn verify_run(
        &self,
        consortium: &ConsortiumId,
        nodes: &NodeSet,
        verifier: &impl CertificateVerifier,
    ) -> Result<Vec<&Header>, ProofError> {
        let certified = &self.certified;
        if certified.consortium != *consortium {
            return Err(ProofError::Consortium);
        }
        if certified.epoch != nodes.epoch() {
            return Err(ProofError::Epoch);
        }
        verifier
            .verify(
                consortium,
                nodes,
                certified.view,
                certified.id(),
                &self.certificate,
            )
            .map_err(|BadCertificate| ProofError::Certificate)?;
        let run: Vec<&Header> = self.earlier.iter().chain([certified]).collect();
        for pair in run.windows(2) {
            // An id covers the whole header, its consortium and height too.
            if pair[0].id() != pair[1].previous {
                return Err(ProofError::Root("block with the certificate"));
            }
        }
        Ok(run)
    }

    /// The header of the block in question, of which nothing is proved yet. [`Self::verify`] returns
    /// it proved.
    pub fn unverified_header(&self) -> &Header {
        self.earlier.first().unwrap_or(&self.certified)
    }

    /// How many headers there are, then these, then the certificate behind its length.
    pub fn encode(&self) -> Vec<u8> {
        let count = u16::try_from(self.earlier.len() + 1).expect("at most HEADERS_MAX headers");
        let mut out = Encoder::new();
        out.u16(count);
        for header in self.earlier.iter().chain([&self.certified]) {
            out.bytes(&header.encode());
        }
        out.var(&self.certificate).finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let count = usize::from(from.u16("number of headers")?);
        let invalid = DecodeError::Invalid {
            what: "the finality proof",
            why: "it has no header, or more than there may be",
        };
        if count > Self::HEADERS_MAX {
            return Err(invalid);
        }
        let headers = (0..count)
            .map(|_| Header::read(&mut from))
            .collect::<Result<Vec<_>, _>>()?;
        let certificate = from.var("certificate", CERTIFICATE_BYTES_MAX)?.to_vec();
        from.finish("the finality proof")?;
        Self::of_run(headers, certificate).ok_or(invalid)
    }
}

/// That a transaction stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    transaction: Vec<u8>,
    path: MerklePath,
}

impl InclusionProof {
    /// Of the transaction at `index` in a block's body; `None` past the last.
    pub fn new(block: &Block, index: u32) -> Option<Self> {
        let transaction = block.transactions().get(index as usize)?.encode();
        let path = block::path(block, index as usize)?;
        Some(Self { transaction, path })
    }

    /// The transaction and its id.
    ///
    /// # Errors
    /// [`ProofError`] unless the proof leads to the header's Merkle root.
    pub fn verify(&self, header: &Header) -> Result<(TransactionId, Transaction), ProofError> {
        let tree = Tree::body(header.consortium);
        let root = self.path.root(&tree, tree.leaf(&self.transaction));
        if self.path.count() != u64::from(header.count) || root != Some(header.merkle_root) {
            return Err(ProofError::Root("header's Merkle root"));
        }
        let transaction = Transaction::decode(&self.transaction)?;
        Ok((transaction.id(&header.consortium), transaction))
    }

    /// The transaction behind its length, then the path.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.var(&self.transaction);
        self.path.encode(&mut out);
        out.finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let transaction = from.var("transaction", TRANSACTION_BYTES_MAX)?.to_vec();
        let path = MerklePath::decode(&mut from)?;
        from.finish("the inclusion proof")?;
        Ok(Self { transaction, path })
    }
}

/// A value of the accountable state, by the key it stands under.
///
/// The type names what is asked and how the answer reads, so that a proof about one thing cannot be
/// taken for another.
pub trait Accountable: Sized {
    /// What one asks by.
    type Key;

    /// The state key (`spec/chain.md` section 3.3).
    fn state_key(key: &Self::Key) -> Vec<u8>;

    /// Reads the value.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    fn decode_value(bytes: &[u8]) -> Result<Self, DecodeError>;
}

macro_rules! accountable {
    ($value:ty, $key:ty, |$name:ident| $state_key:expr, $read:expr) => {
        impl Accountable for $value {
            type Key = $key;

            fn state_key($name: &Self::Key) -> Vec<u8> {
                $state_key
            }

            fn decode_value(bytes: &[u8]) -> Result<Self, DecodeError> {
                state::decode_whole(bytes, $read)
            }
        }
    };
}

accountable!(Charter, (), |_key| keys::charter(), Charter::read);
accountable!(
    CentreKeyList,
    (),
    |_key| keys::centre_keys(),
    CentreKeyList::read
);
accountable!(
    InstitutionList,
    (),
    |_key| keys::institutions(),
    InstitutionList::read
);
accountable!(
    InstitutionState,
    scheme::InstitutionId,
    |id| keys::institution(*id),
    InstitutionState::read
);
accountable!(
    ContactState,
    scheme::InstitutionId,
    |id| keys::contact(*id),
    ContactState::read
);
accountable!(
    MotionState,
    TransactionId,
    |id| keys::motion(*id),
    MotionState::read
);
accountable!(
    OpenMotions,
    (),
    |_key| keys::open_motions(),
    OpenMotions::read
);
accountable!(RulesState, (), |_key| keys::rules(), RulesState::read);
accountable!(
    NodeSet,
    ValidatorEpoch,
    |epoch| keys::node_set(*epoch),
    NodeSet::decode
);
accountable!(
    UserKeyState,
    crate::KeyHash,
    |hash| keys::user_key(*hash),
    UserKeyState::read
);
accountable!(
    WriterEpochState,
    (scheme::InstitutionId, scheme::WriterEpoch),
    |key| keys::writer_epoch(key.0, key.1),
    WriterEpochState::read
);
accountable!(
    NodeKeyState,
    (ValidatorEpoch, scheme::InstitutionId),
    |key| keys::node_key(key.0, key.1),
    NodeKeyState::read
);
accountable!(
    RequestState,
    crate::RequestCommitment,
    |commitment| keys::request(*commitment),
    RequestState::read
);
accountable!(
    GrantState,
    scheme::GrantId,
    |id| keys::grant(*id),
    GrantState::read
);
accountable!(
    Moment,
    scheme::AppointmentId,
    |id| keys::withdrawal(*id),
    Moment::read
);
accountable!(
    AnchorState,
    (),
    |_key| keys::last_anchor(),
    AnchorState::read
);

/// What the state after a block says under one key of its accountable part, or that it says nothing.
/// A grant's value holds how often each access key was used, so one proof shows that an access log
/// is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    value: Option<Vec<u8>>,
    path: TriePath,
    log: LogSummary,
}

impl StateProof {
    /// What `view` says about `key`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new<T: Accountable>(view: &dyn View, key: &T::Key) -> Result<Self, ReadError> {
        Self::of_key(view, &T::state_key(key))
    }

    /// What `view` says under a key of the accountable part (`spec/chain.md` section 3.3), whatever it is:
    /// of any other key, that there is none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn of_key(view: &dyn View, state_key: &[u8]) -> Result<Self, ReadError> {
        let consortium = state::charter(view)?.consortium;
        let accountable = keys::is_accountable(state_key);
        Ok(Self {
            value: if accountable {
                view.get(state_key)?
            } else {
                None
            },
            path: trie::path(view, &consortium, state_key)?,
            log: LogSummary::of(&RecordLog::read(view, &consortium)?),
        })
    }

    /// The value under `key`; `None` if the state proves that there is none.
    ///
    /// # Errors
    /// [`ProofError`] unless the proof leads to the header's state root.
    pub fn verify<T: Accountable>(
        &self,
        header: &Header,
        key: &T::Key,
    ) -> Result<Option<T>, ProofError> {
        let consortium = &header.consortium;
        let trie = self
            .path
            .root(consortium, &T::state_key(key), self.value.as_deref())
            .ok_or(ProofError::Root("header's state root"))?;
        self.log.check(consortium, &trie, header.state_root)?;
        Ok(self.value.as_deref().map(T::decode_value).transpose()?)
    }

    /// Value, path, and the record log's part of the state root.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        match &self.value {
            None => out.u8(0),
            Some(value) => out.u8(1).var(value),
        };
        self.path.encode(&mut out);
        self.log.encode(&mut out);
        out.finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let value = match from.u8("whether there is a value")? {
            0 => None,
            1 => Some(from.var("value of the state", VALUE_BYTES_MAX)?.to_vec()),
            _ => {
                let what = "whether there is a value";
                return Err(DecodeError::Invalid {
                    what,
                    why: "neither 0 nor 1",
                });
            }
        };
        let path = TriePath::decode(&mut from)?;
        let log = LogSummary::decode(&mut from)?;
        from.finish("the state proof")?;
        Ok(Self { value, path, log })
    }
}

/// That the nodes of a validator epoch are these, to whoever trusts those of an earlier epoch: the last
/// block before, proved final by its own nodes, and the set in the state after it.
///
/// A chain of such proofs, one for each time the nodes changed, leads from the founding document to the
/// present ones, whatever lies between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSetProof {
    finality: FinalityProof,
    state: StateProof,
}

impl NodeSetProof {
    /// Of the node set that the last block of an epoch decided on, with that block's own finality; `None`
    /// if the set is the one before.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(
        view: &dyn View,
        epoch: ValidatorEpoch,
        finality: FinalityProof,
    ) -> Result<Option<Self>, ReadError> {
        let Some(kept) = state::node_set_proof(view, epoch)? else {
            return Ok(None);
        };
        let state = StateProof::decode(&kept)?;
        Ok(Some(Self { finality, state }))
    }

    /// The node set, if the nodes that are trusted decided on it. They may have been trusted for an
    /// earlier epoch than the one before: as many of them as make a certificate agreed on this block in
    /// its own epoch among just these nodes, which each vote names.
    ///
    /// # Errors
    /// [`ProofError`] if it does not follow; [`ProofError::Epoch`] if it is of no later epoch than the
    /// trusted one, or the block is not the last of its epoch.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        settings: &Settings,
        trusted: &NodeSet,
        verifier: &impl CertificateVerifier,
    ) -> Result<NodeSet, ProofError> {
        let header = self.finality.unverified_header();
        let (epoch, height) = (header.epoch, header.height);
        if epoch < trusted.epoch()
            || epoch != settings.epoch_of(height)
            || !settings.ends_epoch(height)
        {
            return Err(ProofError::Epoch);
        }
        let trusted = trusted.in_epoch(epoch);
        let header = self.finality.verify(consortium, &trusted, verifier)?;
        let next = settings.epoch_of(height.next());
        let nodes = self.state.verify::<NodeSet>(header, &next)?;
        nodes
            .filter(|nodes| nodes.epoch() == next)
            .ok_or(ProofError::Epoch)
    }

    /// The finality proof, then the state proof, each behind its length.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .var(&self.finality.encode())
            .var(&self.state.encode())
            .finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let finality =
            FinalityProof::decode(from.var("finality proof", NODE_SET_PROOF_BYTES_MAX)?)?;
        let state = StateProof::decode(from.var("state proof", NODE_SET_PROOF_BYTES_MAX)?)?;
        from.finish("the proof of a node set")?;
        Ok(Self { finality, state })
    }
}

/// A certificate of 255 signatures, a set of 255 nodes of 37 bytes, a path of at most 256 digests: 26 KiB.
const NODE_SET_PROOF_BYTES_MAX: usize = 128 << 10;

/// That a record's transaction is on the chain, in the state after any later block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProof {
    height: Height,
    path: MerklePath,
    trie: Digest,
}

impl RecordProof {
    /// Of record `number` in `view`; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(view: &dyn View, number: RecordNumber) -> Result<Option<Self>, ReadError> {
        let consortium = state::charter(view)?.consortium;
        let log = RecordLog::read(view, &consortium)?;
        let Some(path) = log.path(view, number)? else {
            return Ok(None);
        };
        let record = state::record(view, number)?.ok_or(ReadError::Missing {
            what: "record of the log",
        })?;
        let trie = trie::root(view, &consortium)?;
        Ok(Some(Self {
            height: record.position.height,
            path,
            trie,
        }))
    }

    /// Number and height of the record with this transaction.
    ///
    /// # Errors
    /// [`ProofError`] unless the proof leads to the header's state root.
    pub fn verify(
        &self,
        header: &Header,
        transaction: TransactionId,
    ) -> Result<(RecordNumber, Height), ProofError> {
        let consortium = &header.consortium;
        let tree = Tree::log(*consortium);
        let root = self
            .path
            .root(&tree, log::leaf(&tree, self.height, transaction))
            .ok_or(ProofError::Root("record log"))?;
        LogSummary {
            records: RecordNumber::new(self.path.count()),
            root,
        }
        .check(consortium, &self.trie, header.state_root)?;
        Ok((RecordNumber::new(self.path.position()), self.height))
    }

    /// Height, path, and the trie's part of the state root.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u64(self.height.number());
        self.path.encode(&mut out);
        out.bytes(self.trie.as_bytes());
        out.finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let height = Height::new(from.u64("height of the record")?);
        let path = MerklePath::decode(&mut from)?;
        let trie = Digest::new(from.array("root of the trie")?);
        from.finish("the record proof")?;
        Ok(Self { height, path, trie })
    }
}

/// That an anchor holds the Merkle root of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorProof {
    path: MerklePath,
}

impl AnchorProof {
    /// Of the block at `height`, from the headers of all blocks of the anchor in their order; `None`
    /// if these are not the anchor's blocks or the height is not among them.
    pub fn new(anchor: &Anchor, headers: &[Header], height: Height) -> Option<Self> {
        let consortium = headers.first()?.consortium;
        let leaves: Vec<_> = headers
            .iter()
            .map(|header| anchored_leaf(&consortium, header.merkle_root))
            .collect();
        let tree = Tree::anchor(consortium);
        if tree.root(&leaves) != anchor.root {
            return None;
        }
        let position = height.number().checked_sub(anchor.first.number())?;
        Some(Self {
            path: tree.path(&leaves, usize::try_from(position).ok()?)?,
        })
    }

    /// The anchor holds this Merkle root for the block at `height`.
    ///
    /// # Errors
    /// [`ProofError::Root`] if it does not.
    pub fn verify(
        &self,
        consortium: &ConsortiumId,
        anchor: &Anchor,
        height: Height,
        merkle_root: Digest,
    ) -> Result<(), ProofError> {
        let wrong = ProofError::Root("anchor's root");
        let position = height
            .number()
            .checked_sub(anchor.first.number())
            .ok_or(wrong)?;
        let count = anchor
            .last
            .number()
            .saturating_sub(anchor.first.number())
            .saturating_add(1);
        let root = self.path.root(
            &Tree::anchor(*consortium),
            anchored_leaf(consortium, merkle_root),
        );
        let fits = self.path.position() == position && self.path.count() == count;
        if fits && root == Some(anchor.root) {
            Ok(())
        } else {
            Err(wrong)
        }
    }

    /// The path.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.path.encode(&mut out);
        out.finish()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let path = MerklePath::decode(&mut from)?;
        from.finish("the anchor proof")?;
        Ok(Self { path })
    }
}

/// The record log's part of a state root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogSummary {
    records: RecordNumber,
    root: Digest,
}

impl LogSummary {
    fn of(log: &RecordLog) -> Self {
        Self {
            records: log.next(),
            root: log.root(),
        }
    }

    fn check(
        &self,
        consortium: &ConsortiumId,
        trie: &Digest,
        expected: StateRoot,
    ) -> Result<(), ProofError> {
        if state::combine(consortium, trie, self.records, &self.root) == expected {
            return Ok(());
        }
        Err(ProofError::Root("header's state root"))
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.records.number()).bytes(self.root.as_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let records = RecordNumber::new(from.u64("number of records")?);
        Ok(Self {
            records,
            root: Digest::new(from.array("root of the record log")?),
        })
    }
}

/// A certificate is at most a signature of 64 bytes and a place of 4 for each node, a bitmap, and
/// the proposal it is about, for which 1 KiB is ample.
const CERTIFICATE_BYTES_MAX: usize = NODES_MAX * (64 + 4) + 1_024;

/// The largest value of the accountable state is the list of open motions, 44 bytes each: as many as the
/// members can have open, and those of members that left.
const VALUE_BYTES_MAX: usize = 4 + 2 * NODES_MAX * MOTIONS_OPEN_MAX * 44;
