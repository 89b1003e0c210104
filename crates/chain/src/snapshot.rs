//! The state after a block as one file, by which a node begins without executing every block before.
//!
//! After every [`SNAPSHOT_EPOCHS`] validator epochs each node writes the same bytes, signs their digest,
//! and gives both to who asks ([`SnapshotStatement`]). Who begins believes a digest that f + 1 nodes of
//! one validator epoch signed: one of them is correct. The block itself is proved by its certificate, and
//! the blocks before follow later, each by the hash that the one after it names. Once they are here,
//! [`verify_store`](crate::verify_store) executes all of them and compares.
//!
//! Layout, integers big-endian, var(x) its length as u32 and x:
//!
//! ```text
//! "WILLIS-SNAPSHOT"  version u16 = 1  consortium 32  var(tip)
//! for each entry of the state, keys ascending: 1 u8, var(key), var(value)
//! 0 u8
//! ```

use std::{
    io::{self, Read, Write},
    path::Path,
};

use ledger::{EncodedBlock, Genesis, Height, Settings, genesis};
use scheme::{
    BadSignature, ConsortiumId, Context, DecodeError, Decoder, Digest, DigestStream, Encoder,
    Signature, SigningKey, VerifyingKey,
};
use thiserror::Error;

use crate::{
    store::{FinalView, StoreError, StoredBlock, Tip},
    store_fjall::FjallStore,
};

/// After so many validator epochs comes a snapshot: at rest and with the standard settings, 8 hours.
pub const SNAPSHOT_EPOCHS: u64 = 8;

const MAGIC: [u8; 15] = *b"WILLIS-SNAPSHOT";
const VERSION: u16 = 1;
/// The longest key of the state has below 100 bytes.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Values of the state are bounded by transactions, and these by 256 KiB; lists grow with the consortium.
const VALUE_BYTES_MAX: usize = 16 << 20;
/// A tip counts blocks led for each node key that there ever was.
const TIP_BYTES_MAX: usize = 4 << 20;
/// Entries that are installed at one time.
const BATCH: usize = 1_000;

/// Whether a snapshot is taken after the block at this height: the last one of every eighth validator
/// epoch.
pub fn snapshot_after(settings: &Settings, height: Height) -> bool {
    let ended = settings.epoch_of(height).number() + 1;
    settings.ends_epoch(height) && ended.is_multiple_of(SNAPSHOT_EPOCHS)
}

/// What a node says of a snapshot that it wrote: its signature over the other fields but its key, context
/// snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStatement {
    /// After which block.
    pub height: Height,
    /// That block's id.
    pub block: [u8; 32],
    /// SHA-256 of the snapshot's bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
    /// The node's key.
    pub node: VerifyingKey,
    /// Under it.
    pub signature: Signature,
}

impl SnapshotStatement {
    /// Bytes of a statement.
    pub const BYTES: usize = 8 + 32 + 32 + 8 + 32 + 64;

    /// A node's statement.
    pub fn sign(
        consortium: &ConsortiumId,
        tip: &Tip,
        written: &WrittenSnapshot,
        key: &SigningKey,
    ) -> Self {
        let mut statement = Self {
            height: tip.height,
            block: *tip.block.as_bytes(),
            digest: written.digest,
            bytes: written.bytes,
            node: key.verifying_key(),
            signature: Signature::new([0; 64]),
        };
        let said = statement.said();
        statement.signature = key.sign(Context::Snapshot, consortium, &[&said]);
        statement
    }

    /// That the node signed it.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, consortium: &ConsortiumId) -> Result<(), BadSignature> {
        let said = self.said();
        self.node
            .verify(Context::Snapshot, consortium, &[&said], &self.signature)
    }

    /// What two statements of the same snapshot have in common.
    pub fn said(&self) -> Vec<u8> {
        Encoder::new()
            .u64(self.height.number())
            .bytes(&self.block)
            .bytes(self.digest.as_bytes())
            .u64(self.bytes)
            .finish()
    }

    /// The statement's bytes.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new()
            .bytes(&self.said())
            .bytes(self.node.as_bytes())
            .bytes(self.signature.as_bytes())
            .finish()
    }

    /// Reads a statement. Whether it is signed says [`Self::verify`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let statement = Self {
            height: Height::new(from.u64("height")?),
            block: from.array("block id")?,
            digest: Digest::new(from.array("digest")?),
            bytes: from.u64("length of the snapshot")?,
            node: VerifyingKey::new(from.array("node key")?),
            signature: Signature::new(from.array("signature")?),
        };
        from.finish("snapshot's statement")?;
        Ok(statement)
    }
}

/// A snapshot that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenSnapshot {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub bytes: u64,
}

/// Why a snapshot was not written or installed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file, or what it is read from.
    #[error("the snapshot cannot be read or written: {0}; see the disk and the connection")]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The founding document founds nothing.
    #[error("the founding document founds no chain")]
    Founding,
    /// The bytes are no snapshot of this consortium.
    #[error("the bytes are no snapshot of this consortium: {0}; take it from another node")]
    Malformed(&'static str),
    /// They are another one's.
    #[error(
        "the bytes are not those that the nodes signed: whoever gave them is faulty, take them from another node"
    )]
    Another,
}

/// Writes the state of a view. The same state gives the same bytes on every node.
///
/// # Errors
/// [`SnapshotError::Io`], [`SnapshotError::Store`].
pub fn write_snapshot(
    view: &dyn FinalView,
    consortium: &ConsortiumId,
    out: &mut dyn Write,
) -> Result<WrittenSnapshot, SnapshotError> {
    let mut out = Digesting {
        out,
        digest: DigestStream::new(),
        bytes: 0,
    };
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_be_bytes())?;
    out.write_all(consortium.as_bytes())?;
    var(&mut out, &view.tip().encode())?;
    for entry in view.entries() {
        let (key, value) = entry?;
        out.write_all(&[1])?;
        var(&mut out, &key)?;
        var(&mut out, &value)?;
    }
    out.write_all(&[0])?;
    out.flush()?;
    Ok(WrittenSnapshot {
        digest: out.digest.finish(),
        bytes: out.bytes,
    })
}

/// Builds a store in an empty folder from a snapshot that `statement` names, of which f + 1 nodes signed
/// the like, and the block after which it was taken, whose certificate the caller has checked. Nothing of
/// the folder counts unless this succeeds.
///
/// # Errors
/// [`SnapshotError`].
pub fn install_snapshot(
    folder: &Path,
    founding: &Genesis,
    block: &StoredBlock,
    statement: &SnapshotStatement,
    snapshot: &mut dyn Read,
) -> Result<Tip, SnapshotError> {
    let (first, _) = genesis(founding).map_err(|_| SnapshotError::Founding)?;
    let header = EncodedBlock::new(block.block.clone())
        .header()
        .map_err(|_| SnapshotError::Malformed("its block is none"))?;
    let mut input = Digesting {
        out: snapshot,
        digest: DigestStream::new(),
        bytes: 0,
    };
    if input.array::<15>()? != MAGIC {
        return Err(SnapshotError::Malformed("they begin otherwise"));
    }
    if u16::from_be_bytes(input.array()?) != VERSION {
        return Err(SnapshotError::Malformed("they are of another version"));
    }
    if input.array::<32>()? != *founding.consortium().as_bytes() {
        return Err(SnapshotError::Malformed("they are of another consortium"));
    }
    let tip = Tip::decode(&input.var(TIP_BYTES_MAX)?)?;
    if (tip.height, tip.block, tip.state_root) != (header.height, header.id(), header.state_root)
        || (statement.height, statement.block) != (header.height, *header.id().as_bytes())
    {
        return Err(SnapshotError::Malformed("they are of another block"));
    }
    let store = FjallStore::open_for_filling(folder)?;
    let (mut batch, mut last) = (Vec::new(), None);
    loop {
        match input.array::<1>()? {
            [0] => break,
            [1] => {}
            _ => return Err(SnapshotError::Malformed("an entry begins otherwise")),
        }
        let key = input.var(KEY_BYTES_MAX)?;
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(SnapshotError::Malformed("its keys do not ascend"));
        }
        last = Some(key.clone());
        batch.push((key, input.var(VALUE_BYTES_MAX)?));
        if batch.len() == BATCH {
            store.put_state(&batch)?;
            batch.clear();
        }
    }
    store.put_state(&batch)?;
    if (input.digest.finish(), input.bytes) != (statement.digest, statement.bytes) {
        return Err(SnapshotError::Another);
    }
    store.begin_at(first.header(), &first.encode(), &tip, block)?;
    store.sync()?;
    Ok(tip)
}

/// What passes through is digested and counted.
struct Digesting<T> {
    out: T,
    digest: DigestStream,
    bytes: u64,
}

impl Write for Digesting<&mut dyn Write> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Digesting<&mut dyn Read> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn var(&mut self, most: usize) -> Result<Vec<u8>, SnapshotError> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        if length > most {
            return Err(SnapshotError::Malformed("a part is longer than it can be"));
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.out.read_exact(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn var(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).expect("a value of the state is bounded");
    out.write_all(&length.to_be_bytes())?;
    out.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ledger::{TransactionId, testing::FourHospitals};

    use super::*;
    use crate::{
        engine::{
            ConsensusBlock,
            testing::{ToyLedger, apply, node, node_on, run},
        },
        node::{NodeHandle, NotFilled},
        store::Store as _,
    };

    /// A chain of some blocks on a simulated store and on one of production.
    fn with_chain(
        main: impl FnOnce(&FourHospitals, &ToyLedger, [NodeHandle; 2], &dyn Fn(&Path) -> NodeHandle),
    ) {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let folder = tempfile::tempdir().unwrap();
            let durable = Arc::new(FjallStore::open(folder.path()).unwrap());
            let one = node(&context, &hospitals, 1);
            let two = node_on(&context, &hospitals, 2, durable);
            let mut chain = ToyLedger::new(&hospitals);
            let registered = [1, 2].map(|number| hospitals.checked(hospitals.registration(number)));
            chain.grow(&hospitals, 10, &registered);
            for _ in 0..6 {
                chain.grow(&hospitals, 10, &[]);
            }
            for block in &chain.blocks[1..] {
                apply(&one, block);
                apply(&two, block);
            }
            let begin = |folder: &Path| {
                let store = Arc::new(FjallStore::open(folder).unwrap());
                NodeHandle::new(node_on(&context, &hospitals, 3, store))
            };
            main(&hospitals, &chain, [one, two].map(NodeHandle::new), &begin);
        });
    }

    fn written(handle: &NodeHandle) -> (Vec<u8>, WrittenSnapshot) {
        let mut bytes = Vec::new();
        let view = handle.view();
        let written = write_snapshot(view.as_ref(), &handle.consortium(), &mut bytes).unwrap();
        (bytes, written)
    }

    /// With the first hospital's statement.
    fn signed(hospitals: &FourHospitals, handle: &NodeHandle) -> (Vec<u8>, SnapshotStatement) {
        let (bytes, said) = written(handle);
        let (tip, key) = (handle.view().tip().clone(), &hospitals.hospital(1).node_key);
        let statement = SnapshotStatement::sign(&handle.consortium(), &tip, &said, key);
        (bytes, statement)
    }

    fn last_block(handle: &NodeHandle) -> StoredBlock {
        let tip = handle.view().tip().height;
        let mut stored = handle.stored_block(tip).unwrap().unwrap();
        stored.certificate = Some(b"checked by who fetched it".to_vec());
        stored
    }

    #[test]
    fn every_node_writes_the_same_bytes_and_a_store_begins_with_them() {
        with_chain(|hospitals, chain, [one, two], _| {
            let (bytes, statement) = signed(hospitals, &one);
            let tip = one.view().tip().clone();
            assert_eq!(written(&two).0, bytes);
            assert_eq!(statement.bytes, bytes.len() as u64);
            assert_eq!(statement.digest, scheme::sha256(&bytes));
            let folder = tempfile::tempdir().unwrap();
            let block = last_block(&one);
            let installed = install_snapshot(
                folder.path(),
                &hospitals.genesis,
                &block,
                &statement,
                &mut bytes.as_slice(),
            );
            assert_eq!(installed.unwrap(), tip);
            let store = FjallStore::open(folder.path()).unwrap();
            let state = |view: &dyn FinalView| -> Vec<_> {
                view.entries().collect::<Result<_, _>>().unwrap()
            };
            let view = store.view().unwrap().unwrap();
            assert_eq!(state(view.as_ref()), state(one.view().as_ref()));
            assert!(view.get(b"nothing").unwrap().is_none());
            assert_eq!(store.block(tip.height).unwrap().unwrap(), block);
            assert_eq!(store.begins_at().unwrap(), tip.height);

            // The blocks before follow from the top; each is looked up as if it had always been here.
            let ids = |place: usize| -> Vec<TransactionId> {
                let block = chain.blocks[place].block();
                block.identified().map(|(id, _)| id).collect()
            };
            let stored = |place: usize| StoredBlock {
                block: chain.blocks[place].bytes().to_vec(),
                certificate: None,
            };
            let last = chain.blocks.len() - 1;
            let fill = |place: usize| {
                let block = &chain.blocks[place];
                store.fill(
                    block.block().height(),
                    &block.id(),
                    &stored(place),
                    &ids(place),
                )
            };
            assert!(matches!(fill(last - 2), Err(StoreError::NotNext { .. })));
            for place in (1..last).rev() {
                fill(place).unwrap();
            }
            assert_eq!(store.begins_at().unwrap(), Height::new(0));
            assert!(fill(0).is_err(), "nothing is missing");
            let transaction = ids(1)[0];
            assert_eq!(
                store
                    .position(&transaction)
                    .unwrap()
                    .map(|found| found.height),
                Some(Height::new(1))
            );
            for (place, block) in chain.blocks.iter().enumerate() {
                let height = block.block().height();
                assert_eq!(store.height_of(&block.id()).unwrap(), Some(height));
                let found = store.block(height).unwrap().unwrap();
                assert_eq!(found.block, stored(place).block);
            }
        });
    }

    #[test]
    fn a_node_fills_in_what_the_next_block_names_and_nothing_else() {
        with_chain(|hospitals, chain, [one, _], begin| {
            let (bytes, statement) = signed(hospitals, &one);
            let folder = tempfile::tempdir().unwrap();
            let block = last_block(&one);
            install_snapshot(
                folder.path(),
                &hospitals.genesis,
                &block,
                &statement,
                &mut bytes.as_slice(),
            )
            .unwrap();
            let handle = begin(folder.path());
            let blocks: Vec<_> = chain.blocks.iter().map(ConsensusBlock::bytes).collect();
            let last = blocks.len() - 1;
            let fill = |block: &[u8]| {
                handle.fill(&StoredBlock {
                    block: block.to_vec(),
                    certificate: None,
                })
            };
            assert!(matches!(fill(blocks[last - 2]), Err(NotFilled::Another)));
            // Attack: the right header, and a body that it does not name.
            let header = ledger::Header::BYTES;
            let other = [&blocks[last - 1][..header], &blocks[1][header..]].concat();
            assert!(matches!(fill(&other), Err(NotFilled::Another)));
            assert!(matches!(fill(b"none"), Err(NotFilled::Another)));
            for block in blocks[1..last].iter().rev() {
                fill(block).unwrap();
            }
            assert_eq!(handle.begins_at().unwrap(), Height::new(0));
        });
    }

    #[test]
    fn attack_other_bytes_than_those_that_were_signed_install_nothing() {
        with_chain(|hospitals, _, [one, _], _| {
            let (bytes, statement) = signed(hospitals, &one);
            assert_eq!(
                SnapshotStatement::decode(&statement.encode()).unwrap(),
                statement
            );
            assert_eq!(statement.encode().len(), SnapshotStatement::BYTES);
            statement.verify(&one.consortium()).unwrap();
            assert!(statement.verify(&ConsortiumId::new([9; 32])).is_err());
            let mut forged = statement.clone();
            forged.digest = scheme::sha256(b"another");
            assert!(forged.verify(&one.consortium()).is_err());

            let block = last_block(&one);
            let install = |bytes: &[u8], statement: &SnapshotStatement| {
                let folder = tempfile::tempdir().unwrap();
                let mut input = bytes;
                let done = install_snapshot(
                    folder.path(),
                    &hospitals.genesis,
                    &block,
                    statement,
                    &mut input,
                );
                // A store that counts has a tip.
                let store = FjallStore::open(folder.path()).unwrap();
                assert_eq!(done.is_ok(), store.tip().unwrap().is_some());
                done
            };
            assert!(install(&bytes, &statement).is_ok());
            // A bit anywhere: 60 places suffice, the first and the last among them.
            let step = bytes.len() / 60;
            for place in (0..bytes.len())
                .step_by(step.max(1))
                .chain([bytes.len() - 1])
            {
                let mut other = bytes.clone();
                other[place] ^= 1;
                assert!(install(&other, &statement).is_err(), "{place}");
            }
            for length in [0, 14, 60, bytes.len() / 2, bytes.len() - 1] {
                assert!(install(&bytes[..length], &statement).is_err(), "{length}");
            }
            // Of another block: the statement's is the certificate's.
            let mut other = statement.clone();
            other.block = [7; 32];
            assert!(matches!(
                install(&bytes, &other),
                Err(SnapshotError::Malformed(_))
            ));
            let mut longer = bytes;
            longer.extend_from_slice(&[1; 9]);
            // What follows the end is not read.
            assert!(install(&longer, &statement).is_ok());
        });
    }

    #[test]
    fn snapshots_are_due_after_every_eighth_validator_epoch() {
        let settings = Settings {
            epoch_blocks: 10,
            ..Settings::standard()
        };
        let due: Vec<u64> = (0..250)
            .filter(|height| snapshot_after(&settings, Height::new(*height)))
            .collect();
        assert_eq!(due, [79, 159, 239]);
    }
}
