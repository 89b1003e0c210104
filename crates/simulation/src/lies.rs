//! What a node says that lies to those who ask it.

use ledger::{EncodedBlock, Height, ReadError, View, ViewError};
use parties::{FinalChain, ShareAnswer, ShareRequest};
use scheme::{
    ConsortiumId, Grant, HpkePrivateKey, NodeNumber, ShareStatement, SigningKey, VerifiedHeader,
};
use services::NodeChain;

/// Where entries of the index stand (`spec/chain.md` 3.3).
const INDEX: u8 = b't';

/// A chain without the entries of its index.
pub(crate) struct Hiding<'a>(pub(crate) &'a NodeChain<'a>);

impl View for Hiding<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match key.first() {
            Some(&INDEX) => Ok(None),
            _ => self.0.view().get(key),
        }
    }
}

impl FinalChain for Hiding<'_> {
    fn view(&self) -> &dyn View {
        self
    }

    fn block(&self, height: Height) -> Result<Option<EncodedBlock>, ReadError> {
        self.0.block(height)
    }
}

/// A node's shares for whoever asks, of a grant that it has or kept, without any check.
pub(crate) fn free_shares(
    consortium: &ConsortiumId,
    grant: &[u8],
    node: NodeNumber,
    keys: (Vec<HpkePrivateKey>, &SigningKey),
    asked: &ShareRequest,
    record: &scheme::Digest,
    header: &VerifiedHeader,
) -> Vec<ShareAnswer> {
    let (hpke, signing) = keys;
    let grant = Grant::decode(consortium, grant).ok();
    let Some(grant) = grant.and_then(|grant| grant.verify(consortium).ok()) else {
        return Vec::new();
    };
    // It is sealed to the key of one of the validator epochs.
    let part = hpke
        .iter()
        .find_map(|key| grant.open_node_part(consortium, node, key).ok());
    let Some(part) = part else {
        return Vec::new();
    };
    let header_digest = header.header().digest();
    let gid = grant.gid();
    let give = |class: &scheme::ClassPlace| {
        let share = part.shares.get(class.place())?.re_encrypt(header);
        let statement = ShareStatement {
            consortium,
            gid: &gid,
            transaction: record,
            header_digest: &header_digest,
            class: *class,
            node,
            share: &share,
        };
        Some(ShareAnswer::sign(&statement, header, None, signing))
    };
    asked.classes.iter().filter_map(give).collect()
}
