//! The rules of the chain, and nothing else: transactions, blocks, state, the improved PBFT's policy,
//! receipts and proofs (`spec/chain.md`). Every function here depends on its arguments only: no
//! clock, no randomness, no file, no order of a hash map.
//!
//! A block is checked at three levels, and every check says at which it lives:
//! 1. by construction: [`Block::decode`] and [`Transaction::decode`] return nothing that breaks a
//!    layout or a bound;
//! 2. without state: [`check_transaction`], the signatures whose keys a transaction bears itself;
//! 3. against state: [`admit`] for one transaction, [`execute`] for a whole block.
//!
//! | step of the paper's section 3.3 | here |
//! |---|---|
//! | request | [`CheckedTransaction`], [`admit`] |
//! | pre-preparation | [`propose`] |
//! | preparation | [`execute`], by every node before it votes |
//! | confirmation | the engine's certificate |
//!
mod anchoring;
mod block;
mod execute;
mod genesis;
mod hash;
mod identity;
mod keys;
mod log;
mod merkle;
mod policy;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transaction;
mod trie;
mod view;

pub use block::{Block, Header, Limits};
pub use execute::{
    AdmitError, ExecuteError, InvalidBlock, Proposal, ProposeError, Refusal, admit, execute,
    propose,
};
pub use genesis::{Genesis, GenesisError, Settings, genesis};
pub use identity::{
    BlockId, Height, KeyHash, LeaderView, RecordNumber, RequestCommitment, StateRoot, TransactionId,
};
pub use policy::{
    Cut, CutRule, FoundingWarning, LeaderRotation, LeaderTerm, Node, NodeSet, NodeSetError, Quorum,
    RecordsSince, Role, Tier, anchor_due,
};
pub use state::{
    AnchorState, Charter, GrantState, KeyStatus, Moment, ReadError, RecordPosition, RequestState,
    Tip, TransactionPosition, UserKeyState, WriterEpochState, charter, current_writer_epoch, grant,
    grant_of, institution, institutions, last_anchor, node_set, record, record_by_tag,
    record_count, request, state_root, tip, transaction, user_key, withdrawal, writer_epoch,
    writer_epochs, writer_of,
};
pub use transaction::{
    Access, AccessEntry, AccessNumber, AccessPad, Admission, Anchor, Approval,
    CertificateRevocation, CheckError, CheckedTransaction, GrantEntry, GrantTransaction,
    Institution, InstitutionName, KeyUse, Kind, MaskedTransactionId, RecordNonce,
    RecordTransaction, Registrant, Registration, RequestStatement, RequestTransaction, Revocation,
    Signer, TRANSACTION_BYTES_MAX, Transaction, UserKey, Withdrawal, WriterEpochTransaction,
    check_transaction,
};
pub use view::{Changes, MemoryView, Overlay, View, ViewError};
