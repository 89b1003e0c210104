//! Final blocks with their certificates, many at a time: what a backup is made of.

use chain::StoredBlock;
use ledger::{Block, CertificateVerifier as _, EncodedBlock, Header, Height};
use scheme::{DecodeError, Decoder, Encoder, InstitutionId};

use super::{ConsortiumClient, REPLY_BYTES_MAX};
use crate::error::ClientError;

/// Blocks in one reply: as many as one finality proof may cover.
pub const FINAL_BLOCKS_MAX: usize = 256;

/// Bytes of blocks after which a reply takes no further one: a page is at most this and one block.
pub const FINAL_BLOCKS_BYTES: usize = 4 << 20;

/// A certificate of 255 nodes has some 16 KiB.
const CERTIFICATE_BYTES_MAX: usize = 32 << 10;

/// The bytes of blocks, at most [`FINAL_BLOCKS_MAX`] (`spec/formats.md`).
pub fn encode_final_blocks(blocks: &[StoredBlock]) -> Vec<u8> {
    let taken = &blocks[..blocks.len().min(FINAL_BLOCKS_MAX)];
    let mut out = Encoder::new();
    out.u16(u16::try_from(taken.len()).expect("at most 256"));
    for stored in taken {
        out.var(&stored.block);
        match &stored.certificate {
            None => out.u8(0),
            Some(certificate) => out.u8(1).var(certificate),
        };
    }
    out.finish()
}

pub(super) fn decode_final_blocks(
    bytes: &[u8],
    block_bytes: usize,
) -> Result<Vec<StoredBlock>, DecodeError> {
    const WHAT: &str = "the final blocks";
    let mut from = Decoder::new(bytes);
    let count = usize::from(from.u16(WHAT)?);
    if count > FINAL_BLOCKS_MAX {
        return Err(invalid("there are more than one reply holds"));
    }
    let blocks = (0..count)
        .map(|_| {
            let block = from.var(WHAT, block_bytes)?.to_vec();
            let certificate = match from.u8(WHAT)? {
                0 => None,
                1 => Some(from.var("certificate", CERTIFICATE_BYTES_MAX)?.to_vec()),
                _ => return Err(invalid("what tells of a certificate is neither 0 nor 1")),
            };
            Ok(StoredBlock { block, certificate })
        })
        .collect::<Result<_, _>>()?;
    from.finish(WHAT)?;
    Ok(blocks)
}

impl ConsortiumClient {
    /// The blocks after `parent` as one node has them, lowest first; none if it has none yet. Checked
    /// here: each follows the one before and has the body that its header names, and the certificates
    /// stand. A block without one is proved by the next that has one.
    ///
    /// # Errors
    /// [`ClientError`] if the node does not answer, or what it gave is not that.
    pub async fn final_blocks(
        &self,
        node: InstitutionId,
        parent: &Header,
    ) -> Result<Vec<(Header, StoredBlock)>, ClientError> {
        let path = format!("/v1/final-blocks?height={}", parent.height.next().number());
        let block_bytes = Header::BYTES + self.limits.body_bytes as usize;
        let bytes_max = FINAL_BLOCKS_BYTES + block_bytes + REPLY_BYTES_MAX;
        let bytes = match self.get_within(node, &path, bytes_max).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            found => found?,
        };
        let mut parent = *parent;
        let mut checked = Vec::new();
        for stored in decode_final_blocks(&bytes, block_bytes)? {
            let header = self.check_block(&parent, &stored)?;
            if let Some(certificate) = &stored.certificate
                && !self.certifies(&header, certificate)
            {
                // Its nodes may have been decided on since this client looked.
                self.follow().await?;
                if !self.certifies(&header, certificate) {
                    return Err(invalid("a certificate does not stand for its block").into());
                }
            }
            checked.push((header, stored));
            parent = header;
        }
        Ok(checked)
    }

    fn check_block(&self, parent: &Header, stored: &StoredBlock) -> Result<Header, DecodeError> {
        // A header that does not fit costs less to refuse than its body to read.
        let header = EncodedBlock::new(stored.block.clone()).header()?;
        if header.previous != parent.id() || header.height != parent.height.next() {
            return Err(invalid("a block does not follow the one before"));
        }
        self.check_body(stored)?;
        Ok(header)
    }

    pub(super) fn check_body(&self, stored: &StoredBlock) -> Result<(), DecodeError> {
        let block = Block::decode(&stored.block, &self.limits)?;
        if block.holds_its_body() {
            return Ok(());
        }
        Err(invalid(
            "a block's body is not the one that its header names",
        ))
    }

    pub(super) fn certifies(&self, header: &Header, certificate: &[u8]) -> bool {
        let nodes = self.nodes_of(header.epoch);
        let verdict = self.certificates.verify(
            &self.consortium,
            &nodes,
            header.view,
            header.id(),
            certificate,
        );
        verdict.is_ok()
    }

    /// A height that a node says to have reached.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn height_of(&self, node: InstitutionId) -> Result<Height, ClientError> {
        Ok(Height::new(self.status(node).await?.height))
    }
}

fn invalid(why: &'static str) -> DecodeError {
    let what = "the final blocks";
    DecodeError::Invalid { what, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_within_its_bounds_only() {
        let page = [
            StoredBlock {
                block: vec![7; 300],
                certificate: None,
            },
            StoredBlock {
                block: vec![8; 264],
                certificate: Some(vec![9; 40]),
            },
        ];
        let bytes = encode_final_blocks(&page);
        assert_eq!(decode_final_blocks(&bytes, 300).as_deref(), Ok(&page[..]));
        assert!(decode_final_blocks(&bytes, 299).is_err());
        for length in 0..bytes.len() {
            assert!(decode_final_blocks(&bytes[..length], 300).is_err());
        }
        assert!(decode_final_blocks(&[bytes, vec![0]].concat(), 300).is_err());
        let mut many = 257u16.to_be_bytes().to_vec();
        many.extend(vec![0; 5 * 257]);
        assert!(decode_final_blocks(&many, 300).is_err());
    }
}
