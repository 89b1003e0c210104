//! A chain of blocks taken from its founding once more, trusting the founding document and nothing
//! else: each block has to follow the one before, keep every rule of the ledger and give the state
//! root of its header, and the certificates have to stand among the nodes that the state itself
//! names. What comes out is a store as a node's own is.
//!
//! Whoever checks a node's store or brings a backup back goes this way, so that neither believes what
//! it reads. A block is held in memory at a time, and of the state what the store caches.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ledger::{
    Block, CertificateVerifier as _, ExecuteError, FinalityProof, Genesis, Header, Height, NodeSet,
    Overlay, TransactionId, execute, genesis,
};
use scheme::{ConsortiumId, DecodeError};
use thiserror::Error;

use crate::{
    engine::EngineCertificates,
    store::{Commit, FinalView, Store, StoreError, Tip},
    store_fjall::FjallStore,
};

/// Why what was read is not the chain of the founding document.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unsound {
    /// The bytes are no block.
    #[error("the block cannot be read")]
    Unreadable(#[source] DecodeError),
    /// The first block is another.
    #[error("the first block is not that of the founding document")]
    Founding,
    /// The block breaks a rule of the chain, or leads to another state than its header says.
    #[error("the block is not valid: {0}")]
    Invalid(String),
    /// The certificate proves nothing of this block.
    #[error("the certificate does not stand for the block among the nodes of its validator epoch")]
    Certificate,
    /// The last block of a validator epoch has no certificate that stands. The engine always has one.
    #[error("the last block of a validator epoch has no certificate that stands")]
    EpochEnd,
    /// So many blocks have none that no finality proof of the first can be made.
    #[error(
        "of {} blocks up to this one none has a certificate that stands",
        FinalityProof::HEADERS_MAX
    )]
    Unproved,
    /// The last blocks have none, so nothing says that they are final.
    #[error("after this block no certificate follows, so nothing proves it final")]
    Open,
    /// The store that is filled cannot be used, or the founding document founds nothing.
    #[error("the chain cannot be built anew")]
    Store(#[from] StoreError),
}

/// A chain that is built anew, block after block.
pub struct Replay {
    genesis: Genesis,
    consortium: ConsortiumId,
    certificates: EngineCertificates,
    store: FjallStore,
    kept: Kept,
    /// The state after `parent`.
    view: Arc<dyn FinalView>,
    /// The last block.
    parent: Header,
    /// Those of the validator epoch of the last block.
    nodes: NodeSet,
    /// The last block that a certificate proves, its own or a later one's.
    proved: Height,
}

/// What of a block goes into the store beside what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Its bytes and its certificate: the store is a node's.
    All,
    /// Neither: the store is compared with one that has them.
    Derived,
}

impl Replay {
    /// Begins in a folder that has no store yet. The store counts for nothing before [`Self::finish`].
    ///
    /// # Errors
    /// [`Unsound::Store`] if the folder cannot be used; [`Unsound::Founding`] if the founding document
    /// founds nothing.
    pub fn begin(folder: &Path, founding: &Genesis) -> Result<Self, Unsound> {
        Self::begin_with(folder, founding, Kept::All)
    }

    pub(crate) fn begin_with(
        folder: &Path,
        founding: &Genesis,
        kept: Kept,
    ) -> Result<Self, Unsound> {
        let (first, changes) = genesis(founding).map_err(|_| Unsound::Founding)?;
        let nodes = founding.node_set().map_err(|_| Unsound::Founding)?;
        let store = FjallStore::open_for_filling(folder)?;
        let header = *first.header();
        let bytes = first.encode();
        store.commit(Commit {
            tip: &Tip {
                height: header.height,
                block: header.id(),
                state_root: header.state_root,
                time: header.time,
                led: BTreeMap::new(),
            },
            block: kept.of(&bytes).unwrap_or_default(),
            certificate: None,
            transactions: &[],
            changes: &changes,
        })?;
        Ok(Self {
            consortium: founding.consortium(),
            certificates: EngineCertificates::new(founding.settings.leader_term),
            genesis: founding.clone(),
            kept,
            view: seen(&store)?,
            store,
            parent: header,
            nodes,
            // Everyone computes it.
            proved: header.height,
        })
    }

    /// The state after the last block.
    pub fn view(&self) -> &dyn FinalView {
        self.view.as_ref()
    }

    /// Takes the next block with its certificate, if it has one of its own.
    ///
    /// # Errors
    /// [`Unsound`] if it is not the next block of the chain, or its certificate does not stand.
    pub fn next(&mut self, block: &[u8], certificate: Option<&[u8]>) -> Result<Height, Unsound> {
        let height = self.apply(block, certificate)?;
        self.judge(certificate)?;
        Ok(height)
    }

    /// Ends the chain here, and waits until all of it is on the device.
    ///
    /// # Errors
    /// [`Unsound::Open`] if the last block has no certificate; [`Unsound::Store`].
    pub fn finish(self) -> Result<Tip, Unsound> {
        if self.proved < self.parent.height {
            return Err(Unsound::Open);
        }
        self.store.sync()?;
        Ok(self.view.tip().clone())
    }

    /// The last block that a certificate proves final, its own or a later one's.
    pub(crate) fn proved(&self) -> Height {
        self.proved
    }

    pub(crate) fn store(&self) -> &FjallStore {
        &self.store
    }

    /// Executes the next block.
    pub(crate) fn apply(
        &mut self,
        bytes: &[u8],
        certificate: Option<&[u8]>,
    ) -> Result<Height, Unsound> {
        let settings = &self.genesis.settings;
        let block = Block::decode(bytes, &settings.limits()).map_err(Unsound::Unreadable)?;
        let state = Overlay::new(self.view.as_ref());
        let changes = match execute(&state, &self.parent, &block) {
            Ok(changes) => changes,
            Err(ExecuteError::Read(error)) => return Err(StoreError::io("read", error).into()),
            Err(invalid) => return Err(Unsound::Invalid(reasons(&invalid))),
        };
        let header = *block.header();
        let transactions: Vec<TransactionId> = block.identified().map(|(id, _)| id).collect();
        let tip = self.view.tip().next(
            header.height,
            header.id(),
            header.state_root,
            header.time,
            &header.producer,
        );
        // The state before this block decided on the nodes of its epoch.
        if header.epoch != self.nodes.epoch() {
            let nodes = ledger::node_set(self.view.as_ref(), header.epoch);
            let nodes = nodes.map_err(|error| StoreError::io("read", error))?;
            self.nodes = nodes.ok_or(StoreError::Damaged("a node set"))?;
        }
        self.store.commit(Commit {
            tip: &tip,
            block: self.kept.of(bytes).unwrap_or_default(),
            certificate: certificate.and_then(|bytes| self.kept.of(bytes)),
            transactions: &transactions,
            changes: &changes,
        })?;
        self.view = seen(&self.store)?;
        self.parent = header;
        Ok(header.height)
    }

    /// Checks what there is to prove that the last block is final. What does not stand proves nothing,
    /// and what follows can be judged all the same.
    pub(crate) fn judge(&mut self, certificate: Option<&[u8]>) -> Result<(), Unsound> {
        let header = &self.parent;
        let stands = certificate.map(|certificate| {
            self.certificates.verify(
                &self.consortium,
                &self.nodes,
                header.view,
                header.id(),
                certificate,
            )
        });
        match stands {
            Some(Ok(())) => {
                self.proved = header.height;
                return Ok(());
            }
            Some(Err(_)) => return Err(Unsound::Certificate),
            None => {}
        }
        if self.genesis.settings.ends_epoch(header.height) {
            return Err(Unsound::EpochEnd);
        }
        // A proof of the first of them would need this block's header and a certificate after it.
        let run = header.height.number() - self.proved.number();
        if run == FinalityProof::HEADERS_MAX as u64 {
            return Err(Unsound::Unproved);
        }
        Ok(())
    }
}

impl Kept {
    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        (self == Self::All).then_some(bytes)
    }
}

fn seen(store: &FjallStore) -> Result<Arc<dyn FinalView>, StoreError> {
    store.view()?.ok_or(StoreError::Damaged("the tip"))
}

/// An error with its causes, on one line.
pub(crate) fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
