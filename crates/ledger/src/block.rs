//! The block as the paper's Figure 8 draws it (`spec/chain.md` section 5): a header with id, size,
//! previous hash, Merkle root, timestamp and the producer's signature; a body of transactions.

use scheme::Digest;
use scheme::{BadSignature, Context, Signature, SigningKey, VerifyingKey};
use scheme::{ConsortiumId, Timestamp, ValidatorEpoch};
use scheme::{DecodeError, Decoder, Encoder};

use crate::hash::{self, tagged};
use crate::identity::{BlockId, Height, LeaderView, StateRoot, TransactionId};
use crate::merkle::{MerklePath, Tree};
use crate::transaction::{TRANSACTION_BYTES_MAX, Transaction, WriterKeys};

/// A block's header. Figure 8's block id is [`Header::id`], computed and not carried. Consortium,
/// height, validator epoch, leader's view, number of transactions and state root are added to the
/// figure; `spec/chain.md` section 5 says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose chain.
    pub consortium: ConsortiumId,
    /// The parent's height plus 1; 0 for the genesis block.
    pub height: Height,
    /// The node set that decides on this block.
    pub epoch: ValidatorEpoch,
    /// The view in which the producer led.
    pub view: LeaderView,
    /// The parent's id ("hash of the previous block").
    pub previous: BlockId,
    /// By the leader's clock, later than the parent's.
    pub time: Timestamp,
    /// Bytes of the body ("block size").
    pub size: u32,
    /// How many transactions the body has.
    pub count: u32,
    /// Merkle root over the transactions' bytes.
    pub merkle_root: Digest,
    /// Root of the state after this block.
    pub state_root: StateRoot,
    /// The accounting node that made the block.
    pub producer: VerifyingKey,
    /// The producer's signature of all the above. Zero in the genesis block, which everyone
    /// computes.
    pub signature: Signature,
}

impl Header {
    /// Bytes of the encoding: 5 x 32 + 4 x 8 + 2 x 4 + 64.
    pub const BYTES: usize = 264;

    /// SHA-256 of the header under its tag.
    pub fn id(&self) -> BlockId {
        tagged(hash::BLOCK, &self.consortium, &[&self.encode()]).into()
    }

    /// The producer's signature stands.
    ///
    /// # Errors
    /// [`BadSignature`] if not.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let parts = [self.unsigned()];
        self.producer.verify(
            Context::Consensus,
            &self.consortium,
            &[&parts[0]],
            &self.signature,
        )
    }

    pub(crate) fn sign(&mut self, key: &SigningKey) {
        self.producer = key.verifying_key();
        self.signature = key.sign(Context::Consensus, &self.consortium, &[&self.unsigned()]);
    }

    /// The 264 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(&self.unsigned()).bytes(self.signature.as_bytes());
        out.finish()
    }

    /// Reads 264 bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if there are fewer or more.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let header = Self::read(&mut from)?;
        from.finish("the header")?;
        Ok(header)
    }

    pub(crate) fn read(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            consortium: ConsortiumId::new(from.array("consortium")?),
            height: Height::new(from.u64("height")?),
            epoch: ValidatorEpoch::new(from.u64("validator epoch")?),
            view: LeaderView::new(from.u64("leader's view")?),
            previous: BlockId::new(from.array("previous block")?),
            time: Timestamp::new(from.u64("block time")?),
            size: from.u32("size of the body")?,
            count: from.u32("number of transactions")?,
            merkle_root: Digest::new(from.array("Merkle root")?),
            state_root: StateRoot::new(from.array("state root")?),
            producer: VerifyingKey::new(from.array("producer")?),
            signature: Signature::new(from.array("producer's signature")?),
        })
    }

    fn unsigned(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(self.consortium.as_bytes())
            .u64(self.height.number())
            .u64(self.epoch.number())
            .u64(self.view.number())
            .bytes(self.previous.as_bytes())
            .u64(self.time.number())
            .u32(self.size)
            .u32(self.count)
            .bytes(self.merkle_root.as_bytes())
            .bytes(self.state_root.as_bytes())
            .bytes(self.producer.as_bytes())
            .finish()
    }
}

/// How large a block may be. The chain's are in its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body_bytes: u32,
    /// Most transactions.
    pub transactions: u32,
}

/// A header and the transactions it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    header: Header,
    body: Vec<Transaction>,
}

impl Block {
    pub(crate) fn new(header: Header, body: Vec<Transaction>) -> Self {
        Self { header, body }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The block's id: that of its header.
    pub fn id(&self) -> BlockId {
        self.header.id()
    }

    /// Where it stands.
    pub fn height(&self) -> Height {
        self.header.height
    }

    /// The id of the block before.
    pub fn parent(&self) -> BlockId {
        self.header.previous
    }

    /// The block's time.
    pub fn time(&self) -> Timestamp {
        self.header.time
    }

    /// The consensus key of the node that made it.
    pub fn producer(&self) -> VerifyingKey {
        self.header.producer
    }

    /// The body.
    pub fn transactions(&self) -> &[Transaction] {
        &self.body
    }

    /// The body's transactions with their ids.
    pub fn identified(&self) -> impl Iterator<Item = (TransactionId, &Transaction)> {
        self.body
            .iter()
            .map(|transaction| (transaction.id(&self.header.consortium), transaction))
    }

    /// The Merkle tree over the body, for showing: its leaves first, then level by level up to the root. A
    /// last one without a neighbour stands on the next level as it is. Empty for an empty body.
    pub fn merkle_levels(&self) -> Vec<Vec<Digest>> {
        let tree = Tree::body(self.header.consortium);
        let leaves = self.body.iter().map(|one| tree.leaf(&one.encode()));
        let mut levels: Vec<Vec<Digest>> = Vec::new();
        let mut level: Vec<Digest> = leaves.collect();
        while level.len() > 1 {
            let pairs = level.chunks(2);
            let above = pairs.map(|pair| match pair {
                [left, right] => tree.node(left, right),
                alone => alone[0],
            });
            let above = above.collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        if !level.is_empty() {
            levels.push(level);
        }
        levels
    }

    /// Whether the body is the one that the header names (B4): size, number and Merkle root of its
    /// transactions. The id covers the header only, so whoever keeps blocks by their id asks this
    /// before it keeps one that came from elsewhere; [`execute`](crate::execute()) asks it too.
    pub fn holds_its_body(&self) -> bool {
        let encoded: Vec<Vec<u8>> = self.body.iter().map(Transaction::encode).collect();
        let body = summarize(&self.header.consortium, encoded.iter().map(Vec::as_slice));
        body.size == u64::from(self.header.size)
            && body.count == u64::from(self.header.count)
            && body.merkle_root == self.header.merkle_root
    }

    /// Header, then each transaction as a u32 length and its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.bytes(&self.header.encode());
        for transaction in &self.body {
            out.var(&transaction.encode());
        }
        out.finish()
    }

    /// Reads a block. What it returns keeps every rule of level 1 (by construction): the body has
    /// the size and number of transactions that the header states, within `limits`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no block. Drop them and name their sender.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let header = Header::read(&mut from)?;
        check_limit("size of the body", header.size, limits.body_bytes)?;
        check_limit("number of transactions", header.count, limits.transactions)?;
        if from.remaining() != header.size as usize {
            let what = "size of the body";
            return Err(DecodeError::Invalid {
                what,
                why: "not the one that the header states",
            });
        }
        let mut body = Vec::new();
        let mut writer_keys = WriterKeys::default();
        for _ in 0..header.count {
            let bytes = from.var("transaction", TRANSACTION_BYTES_MAX)?;
            body.push(Transaction::decode_among(bytes, &mut writer_keys)?);
        }
        from.finish("the block")?;
        Ok(Self { header, body })
    }
}

/// A block as it lies in a node's store: of it one reads the header, or one transaction, without
/// decoding the others, whose points cost more than the rest. It was checked when it became final;
/// here nothing is checked of what is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBlock(Vec<u8>);

impl EncodedBlock {
    /// From what [`Block::encode`] gave.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The header.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no block. The store is damaged.
    pub fn header(&self) -> Result<Header, DecodeError> {
        Header::read(&mut Decoder::new(&self.0))
    }

    /// The transaction at a place of the body, from 0; `None` past the last.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no block, as far as they are read. The store is damaged.
    pub fn transaction(&self, index: u32) -> Result<Option<Transaction>, DecodeError> {
        let mut from = Decoder::new(&self.0);
        if index >= Header::read(&mut from)?.count {
            return Ok(None);
        }
        for _ in 0..index {
            from.var("transaction", TRANSACTION_BYTES_MAX)?;
        }
        let bytes = from.var("transaction", TRANSACTION_BYTES_MAX)?;
        Transaction::decode(bytes).map(Some)
    }
}

fn check_limit(what: &'static str, found: u32, limit: u32) -> Result<(), DecodeError> {
    if found > limit {
        return Err(DecodeError::TooLarge {
            what,
            found: found.into(),
            limit: limit.into(),
        });
    }
    Ok(())
}

/// What a header says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodySummary {
    pub(crate) size: u64,
    pub(crate) count: u64,
    pub(crate) merkle_root: Digest,
}

/// Sums up the encodings of a body's transactions.
pub(crate) fn summarize<'a>(
    consortium: &ConsortiumId,
    encoded: impl IntoIterator<Item = &'a [u8]>,
) -> BodySummary {
    let tree = Tree::body(*consortium);
    let mut size = 0;
    let mut leaves = Vec::new();
    for bytes in encoded {
        size += bytes.len() as u64 + LENGTH_BYTES;
        leaves.push(tree.leaf(bytes));
    }
    BodySummary {
        size,
        count: leaves.len() as u64,
        merkle_root: tree.root(&leaves),
    }
}

/// The way from a transaction to the Merkle root of its block.
pub(crate) fn path(block: &Block, position: usize) -> Option<MerklePath> {
    let tree = Tree::body(block.header.consortium);
    let leaves: Vec<_> = block
        .body
        .iter()
        .map(|transaction| tree.leaf(&transaction.encode()))
        .collect();
    tree.path(&leaves, position)
}

/// Each transaction of a body stands behind its length in four bytes.
pub(crate) const LENGTH_BYTES: u64 = 4;
