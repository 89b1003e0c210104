//! Where the engine finds final blocks and their certificates: what is not applied yet in files of its
//! own, everything else in the node's store. So nothing is kept twice, and a peer that was away for
//! however long is given every block.
//!
//! To the engine each is an archive that is pruned: what it holds begins somewhere, and what is asked for
//! by height or digest may be older.

use std::sync::Arc;

use commonware_codec::{Copying, Decode as _};
use commonware_consensus::{
    marshal::store::{Blocks, Certificates},
    simplex::types::Finalization,
    types,
};
use commonware_cryptography::certificate::Verifier as _;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_storage::{
    archive::{self, Identifier, prunable},
    translator::EightCap,
};
use commonware_utils::NZU64;
use ledger::{BlockId, Height, Limits};
use thiserror::Error;

use super::{
    Digest, Runtime, Scheme,
    assembly::{REPLAY_BUFFER, WRITE_BUFFER},
    block::ConsensusBlock,
};
use crate::store::{Store, StoreError, StoredBlock};

type Certificate = Finalization<Scheme, Digest>;

/// Why one of them cannot go on.
#[derive(Debug, Error)]
pub(super) enum ArchiveError {
    /// The engine's files.
    #[error(transparent)]
    Files(#[from] archive::Error),
    /// The node's store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many blocks behind the tip the engine's own files go on to hold. It needs those that are not
/// applied, and the newest certificate; the rest is there for peers that are a little behind, without a
/// look into the store.
pub(super) const KEPT: u64 = 256;

/// How many blocks are pruned at one time, and how many stand in one file.
pub(super) const PRUNED_AT_ONCE: u64 = 256;

/// Certificates of final blocks.
pub(super) struct FinalCertificates<E: Runtime> {
    recent: prunable::Archive<EightCap, E, Digest, Certificate>,
    store: Arc<dyn Store>,
}

/// Final blocks.
pub(super) struct FinalBlocks<E: Runtime> {
    recent: prunable::Archive<EightCap, E, Digest, Arc<ConsensusBlock>>,
    store: Arc<dyn Store>,
    limits: Limits,
}

impl<E: Runtime> FinalCertificates<E> {
    pub(super) async fn open(
        context: E,
        partition: &str,
        page_cache: &CacheRef,
        store: Arc<dyn Store>,
    ) -> Result<Self, ArchiveError> {
        let limit = Scheme::certificate_codec_config_unbounded();
        let files = files(partition, "certificates", page_cache, limit);
        Ok(Self {
            recent: prunable::Archive::init(context, files).await?,
            store,
        })
    }
}

impl<E: Runtime> FinalBlocks<E> {
    pub(super) async fn open(
        context: E,
        partition: &str,
        page_cache: &CacheRef,
        store: Arc<dyn Store>,
        limits: Limits,
    ) -> Result<Self, ArchiveError> {
        let files = files(partition, "blocks", page_cache, limits);
        Ok(Self {
            recent: prunable::Archive::init(context, files).await?,
            store,
            limits,
        })
    }
}

fn files<C>(
    partition: &str,
    name: &str,
    page_cache: &CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    let part = |of: &str| format!("{partition}-{name}-{of}");
    prunable::Config {
        translator: EightCap,
        metadata_partition: part("metadata"),
        key_partition: part("keys"),
        key_page_cache: page_cache.clone(),
        value_partition: part("values"),
        compression: Some(3),
        codec_config,
        items_per_section: NZU64!(PRUNED_AT_ONCE),
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    }
}

/// What the store has under a height or a block's id.
fn stored(
    store: &dyn Store,
    id: &Identifier<'_, Digest>,
) -> Result<Option<StoredBlock>, StoreError> {
    let height = match id {
        Identifier::Index(height) => Height::new(*height),
        Identifier::Key(digest) => match store.height_of(&BlockId::new(digest.0))? {
            Some(height) => height,
            None => return Ok(None),
        },
    };
    store.block(height)
}

/// The same question once more.
fn again<'a>(id: &Identifier<'a, Digest>) -> Identifier<'a, Digest> {
    match id {
        Identifier::Index(height) => Identifier::Index(*height),
        Identifier::Key(digest) => Identifier::Key(digest),
    }
}

/// A block's own certificate, which this node checked before it kept it.
fn certificate(stored: &StoredBlock) -> Result<Option<Certificate>, StoreError> {
    let limit = Scheme::certificate_codec_config_unbounded();
    let bytes = stored.certificate.as_deref();
    bytes
        .map(|bytes| Finalization::decode_cfg(Copying(bytes), &limit))
        .transpose()
        .map_err(|_| StoreError::Damaged("a certificate"))
}

/// The certificate of the last block, from `tip` down to `least`, that has one of its own. Mostly that is
/// the first that is looked at, and the last block of a validator epoch always has one.
pub(super) fn newest_certificate(
    store: &dyn Store,
    tip: Height,
    least: Height,
) -> Result<Option<Certificate>, StoreError> {
    for height in (least.number()..=tip.number()).rev() {
        let stored = store.block(Height::new(height))?;
        let stored = stored.ok_or(StoreError::Damaged("the chain of blocks"))?;
        if let Some(found) = certificate(&stored)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl<E: Runtime> Certificates for FinalCertificates<E> {
    type BlockDigest = Digest;
    type Commitment = Digest;
    type Scheme = Scheme;
    type Error = ArchiveError;

    async fn put(
        mut self,
        height: types::Height,
        digest: Digest,
        finalization: &Certificate,
    ) -> Result<Self, ArchiveError> {
        self.recent = Certificates::put(self.recent, height, digest, finalization).await?;
        Ok(self)
    }

    async fn sync(mut self) -> Result<Self, ArchiveError> {
        self.recent = Certificates::sync(self.recent).await?;
        Ok(self)
    }

    async fn start_sync(mut self) -> Result<(Self, Handle<()>), ArchiveError> {
        let synced;
        (self.recent, synced) = Certificates::start_sync(self.recent).await?;
        Ok((self, synced))
    }

    async fn get(&self, id: Identifier<'_, Digest>) -> Result<Option<Certificate>, ArchiveError> {
        if let Some(found) = Certificates::get(&self.recent, again(&id)).await? {
            return Ok(Some(found));
        }
        match stored(self.store.as_ref(), &id)? {
            Some(stored) => Ok(certificate(&stored)?),
            None => Ok(None),
        }
    }

    async fn has(&self, height: types::Height) -> Result<bool, ArchiveError> {
        if Certificates::has(&self.recent, height).await? {
            return Ok(true);
        }
        let stored = self.store.block(Height::new(height.get()))?;
        Ok(stored.is_some_and(|stored| stored.certificate.is_some()))
    }

    async fn prune(mut self, min: types::Height) -> Result<Self, ArchiveError> {
        self.recent = Certificates::prune(self.recent, min).await?;
        Ok(self)
    }

    fn last_index(&self) -> Option<types::Height> {
        Certificates::last_index(&self.recent)
    }

    fn ranges_from(
        &self,
        from: types::Height,
    ) -> impl Iterator<Item = (types::Height, types::Height)> {
        Certificates::ranges_from(&self.recent, from)
    }
}

impl<E: Runtime> Blocks for FinalBlocks<E> {
    type Block = Arc<ConsensusBlock>;
    type Error = ArchiveError;

    async fn put(
        mut self,
        digest: Digest,
        block: &Arc<ConsensusBlock>,
    ) -> Result<Self, ArchiveError> {
        self.recent = Blocks::put(self.recent, digest, block).await?;
        Ok(self)
    }

    async fn sync(mut self) -> Result<Self, ArchiveError> {
        self.recent = Blocks::sync(self.recent).await?;
        Ok(self)
    }

    async fn start_sync(mut self) -> Result<(Self, Handle<()>), ArchiveError> {
        let synced;
        (self.recent, synced) = Blocks::start_sync(self.recent).await?;
        Ok((self, synced))
    }

    async fn get(
        &self,
        id: Identifier<'_, Digest>,
    ) -> Result<Option<Arc<ConsensusBlock>>, ArchiveError> {
        if let Some(found) = Blocks::get(&self.recent, again(&id)).await? {
            return Ok(Some(found));
        }
        let Some(stored) = stored(self.store.as_ref(), &id)? else {
            return Ok(None);
        };
        let block = ledger::Block::decode(&stored.block, &self.limits)
            .map_err(|_| StoreError::Damaged("a block"))?;
        Ok(Some(Arc::new(ConsensusBlock::new(block))))
    }

    async fn prune(mut self, min: types::Height) -> Result<Self, ArchiveError> {
        self.recent = Blocks::prune(self.recent, min).await?;
        Ok(self)
    }

    fn missing_items(&self, start: types::Height, max: usize) -> Vec<types::Height> {
        Blocks::missing_items(&self.recent, start, max)
    }

    fn next_gap(&self, value: types::Height) -> (Option<types::Height>, Option<types::Height>) {
        Blocks::next_gap(&self.recent, value)
    }

    fn last_index(&self) -> Option<types::Height> {
        Blocks::last_index(&self.recent)
    }
}

#[cfg(test)]
mod tests {
    use commonware_cryptography::Digestible as _;
    use commonware_runtime::Supervisor as _;
    use ledger::testing::FourHospitals;

    use super::*;
    use crate::engine::{
        block::height_of,
        testing::{ToyLedger, apply, node, run},
    };

    fn height(number: u64) -> types::Height {
        height_of(Height::new(number))
    }

    #[test]
    fn what_was_pruned_is_found_in_the_store_and_what_is_not_applied_in_the_files() {
        run(|context| async move {
            let hospitals = FourHospitals::default();
            let shared = node(&context, &hospitals, 1);
            let mut chain = ToyLedger::new(&hospitals);
            let last = PRUNED_AT_ONCE + 9;
            for _ in 0..last {
                chain.grow(&hospitals, 10, &[]);
            }
            let page_cache = CacheRef::new(
                commonware_runtime::buffer::paged::page_size(4_096),
                commonware_utils::NZUsize!(16),
            );
            let open = async || {
                let store = Arc::clone(&shared.store);
                FinalBlocks::open(
                    context.child("blocks"),
                    "x",
                    &page_cache,
                    store,
                    shared.limits,
                )
                .await
                .unwrap()
            };
            let mut blocks = open().await;
            for block in &chain.blocks[1..] {
                let block = Arc::new(block.clone());
                blocks = blocks.put(block.digest(), &block).await.unwrap();
            }
            // The last three are final and not applied.
            let applied = last - 3;
            for block in &chain.blocks[1..=applied as usize] {
                apply(&shared, block);
            }
            blocks = blocks.prune(height(PRUNED_AT_ONCE)).await.unwrap();
            drop(blocks.sync().await.unwrap());
            let blocks = open().await;
            assert_eq!(blocks.next_gap(height(1)).1, Some(height(PRUNED_AT_ONCE)));
            assert_eq!(blocks.last_index(), Some(height(last)));
            assert!(blocks.missing_items(height(applied + 1), 9).is_empty());
            for block in &chain.blocks {
                let digest = block.digest();
                let number = block.block().header().height.number();
                for id in [Identifier::Index(number), Identifier::Key(&digest)] {
                    let found = blocks.get(id).await.unwrap().unwrap();
                    assert_eq!(found.bytes(), block.bytes());
                }
            }
            let none = blocks.get(Identifier::Index(last + 1)).await.unwrap();
            assert!(none.is_none());
        });
    }
}
