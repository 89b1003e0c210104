//! Evidence of a node's misbehaviour: two signed votes that exclude each other, and their layout
//! (`spec/formats.md`, M24). Whether it stands is the module `engine`'s to say.

use ledger::LeaderView;
use scheme::{DecodeError, Decoder, Encoder, ValidatorEpoch, VerifyingKey};
use thiserror::Error;

/// The longest piece, in bytes: kind 1, node 32, epoch 8, view 8, length 4, votes.
pub const EVIDENCE_BYTES_MAX: usize = 1 + 32 + 8 + 8 + 4 + VOTES_BYTES_MAX;

/// Two votes of at most 141 bytes (signer 5, epoch, view and parent's view 10 each, block 32, signature
/// 64, and 10 to spare) after a byte that says which.
const VOTES_BYTES_MAX: usize = 320;

/// What a node did that it must not do, in the engine's own words. Whoever has it can show it:
/// [`EngineCertificates::verify_evidence`](crate::EngineCertificates::verify_evidence) checks it
/// without trust in who kept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What was done.
    pub offence: Offence,
    /// Who did it.
    pub node: VerifyingKey,
    /// In which validator epoch.
    pub epoch: ValidatorEpoch,
    /// In which view.
    pub view: LeaderView,
    /// Both signed votes, in the engine's encoding: anyone can check them.
    pub votes: Vec<u8>,
}

/// The kinds of misbehaviour that leave evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Two prepare votes for different blocks of one view.
    ConflictingPrepare,
    /// Two commit votes for different blocks of one view.
    ConflictingCommit,
    /// A vote to skip a view and a commit vote in it.
    SkipAndCommit,
}

/// The piece proves nothing: it is altered, of another consortium or node set, or its votes do not
/// exclude each other. Leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the evidence does not stand: leave it out")]
pub struct BadEvidence;

impl Evidence {
    /// The bytes that are kept and travel (`spec/formats.md`, M24).
    pub fn encode(&self) -> Vec<u8> {
        let offence = match self.offence {
            Offence::ConflictingPrepare => 1,
            Offence::ConflictingCommit => 2,
            Offence::SkipAndCommit => 3,
        };
        Encoder::new()
            .u8(offence)
            .bytes(self.node.as_bytes())
            .u64(self.epoch.number())
            .u64(self.view.number())
            .var(&self.votes)
            .finish()
    }

    /// Decodes a piece. Whether it stands is another question.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the evidence";
        let mut from = Decoder::new(bytes);
        let evidence = Self {
            offence: match from.u8(WHAT)? {
                1 => Offence::ConflictingPrepare,
                2 => Offence::ConflictingCommit,
                3 => Offence::SkipAndCommit,
                _ => {
                    return Err(DecodeError::Invalid {
                        what: WHAT,
                        why: "the offence is unknown here",
                    });
                }
            },
            node: VerifyingKey::new(from.array(WHAT)?),
            epoch: ValidatorEpoch::new(from.u64(WHAT)?),
            view: LeaderView::new(from.u64(WHAT)?),
            votes: from.var("the votes", VOTES_BYTES_MAX)?.to_vec(),
        };
        from.finish(WHAT)?;
        Ok(evidence)
    }

    /// The bytes of several pieces.
    pub fn encode_all(pieces: &[Self]) -> Vec<u8> {
        let mut out = Encoder::new();
        out.u32(pieces.len() as u32);
        for piece in pieces {
            out.var(&piece.encode());
        }
        out.finish()
    }

    /// Decodes several pieces, at most `most`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none, or more.
    pub fn decode_all(bytes: &[u8], most: usize) -> Result<Vec<Self>, DecodeError> {
        const WHAT: &str = "the pieces of evidence";
        let mut from = Decoder::new(bytes);
        let count = from.count(WHAT, most)?;
        let pieces = (0..count)
            .map(|_| Self::decode(from.var(WHAT, EVIDENCE_BYTES_MAX)?))
            .collect::<Result<_, DecodeError>>()?;
        from.finish(WHAT)?;
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(votes: usize) -> Evidence {
        Evidence {
            offence: Offence::SkipAndCommit,
            node: VerifyingKey::new([7; 32]),
            epoch: ValidatorEpoch::new(0x03),
            view: LeaderView::new(0x0102),
            votes: vec![9; votes],
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let bytes = piece(2).encode();
        let expected = [
            [3].as_slice(),
            &[7; 32],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 2],
            &[9, 9],
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(Evidence::decode(&bytes), Ok(piece(2)));
        for offence in [0, 4, 255] {
            let mut other = bytes.clone();
            other[0] = offence;
            assert!(Evidence::decode(&other).is_err());
        }
        for length in 0..bytes.len() {
            assert!(Evidence::decode(&bytes[..length]).is_err());
        }
        assert!(Evidence::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn a_piece_and_a_list_are_bounded() {
        let longest = piece(VOTES_BYTES_MAX);
        assert_eq!(longest.encode().len(), EVIDENCE_BYTES_MAX);
        assert!(Evidence::decode(&longest.encode()).is_ok());
        assert!(Evidence::decode(&piece(VOTES_BYTES_MAX + 1).encode()).is_err());
        let all = [piece(1), longest, piece(0)];
        let bytes = Evidence::encode_all(&all);
        assert_eq!(Evidence::decode_all(&bytes, 3), Ok(all.to_vec()));
        assert!(Evidence::decode_all(&bytes, 2).is_err());
        assert!(Evidence::decode_all(&[u8::MAX; 8], 3).is_err());
    }
}
