//! The rules of the chain, and nothing else: transactions, blocks, state, the improved PBFT's policy,
//! receipts and proofs (`spec/chain.md`). Every function here depends on its arguments only: no
//! clock, no randomness, no file, no order of a hash map.
//!
//! A block is checked at three levels, and every check says at which it lives:
//! 1. by construction: [`Block::decode`] and [`Transaction::decode`] return nothing that breaks a
//!    layout or a bound;
//! 2. without state: [`check_transaction`], the signatures whose keys a transaction bears itself;
//! 3. against state: [`admit`] for one transaction, [`execute()`] for a whole block.
//!
//! | step of the paper's section 3.3 | here |
//! |---|---|
//! | request | [`CheckedTransaction`], [`admit`] |
//! | pre-preparation | [`propose`] |
//! | preparation | [`execute()`], by every node before it votes |
//! | confirmation | the engine's certificate, [`CertificateVerifier`] |
//! | reply | [`Receipt`], [`ReceiptCollector`] |
//!
//!
//! A consortium of one hospital makes its first block:
//!
//! ```
//! use ledger::{Genesis, Institution, InstitutionName, LeaderView, MemoryView, Settings, Tier};
//! use scheme::{InstitutionId, SigningKey, Threshold, Timestamp};
//!
//! // Real keys come from SigningKey::random, each on its own machine.
//! let [centre, server, node] = [1, 2, 3].map(|seed| SigningKey::from_seed([seed; 32]));
//! let founding = Genesis {
//!     time: Timestamp::new(1_767_225_600_000),
//!     centre: centre.verifying_key(),
//!     institutions: vec![Institution {
//!         id: InstitutionId::new(1),
//!         tier: Tier::Tertiary,
//!         name: InstitutionName::new("University Hospital")?,
//!         key: server.verifying_key(),
//!         node: node.verifying_key(),
//!     }],
//!     // A single node can give a single share of each key.
//!     settings: Settings {
//!         threshold_min: Threshold::new(1).ok_or("not 0")?,
//!         ..Settings::standard()
//!     },
//! };
//! let (first, changes) = ledger::genesis(&founding)?;
//! let mut state = MemoryView::new();
//! state.apply(&changes);
//!
//! let time = Timestamp::new(1_767_225_602_000);
//! let parent = first.header();
//! let proposal = ledger::propose(&state, parent, LeaderView::new(1), time, [], &node)?;
//! let changes = ledger::execute(&state, parent, &proposal.block)?;
//! state.apply(&changes);
//! assert_eq!(ledger::state_root(&state)?, proposal.block.header().state_root);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod proof;
mod receipt;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transaction;
mod trie;
mod view;

pub use block::{Block, EncodedBlock, Header, Limits};
pub use execute::{
    AdmitError, ExecuteError, InvalidBlock, Proposal, ProposeError, Refusal, admit, execute,
    propose,
};
pub use genesis::{Genesis, GenesisError, Settings, genesis};
pub use identity::{
    BlockId, CentreKeyNumber, Height, KeyHash, LeaderView, RecordNumber, RequestCommitment,
    StateRoot, TransactionId,
};
pub use policy::{
    Cut, CutRule, FoundingWarning, LeaderRotation, LeaderTerm, NODES_MAX, Node, NodeSet,
    NodeSetError, Quorum, RecordsSince, Role, Tier, anchor_due,
};
pub use proof::{
    Accountable, AnchorProof, BadCertificate, CertificateVerifier, FinalityProof, InclusionProof,
    NodeSetProof, ProofError, RecordProof, StateProof,
};
pub use receipt::{Answer, NoReceipt, Outcome, Receipt, ReceiptCollector, ReceiptError, Shortfall};
pub use state::{
    AnchorState, CentreKeyList, CentreKeyStanding, CentreKeyState, Charter, ContactState,
    GrantState, IndexEntryState, InstitutionList, InstitutionState, KeyStatus, Moment, MotionState,
    NodeKeyState, OpenMotion, OpenMotions, RULES_KNOWN, ReadError, RecordState, RequestState,
    RulesState, Tip, TransactionPosition, UserKeyState, WriterEpochState, centre_keys,
    changed_node_sets, charter, check_rules, contact, current_writer_epoch, grant, grant_of,
    index_entry, institution, institution_of_key, institution_state, institutions, last_anchor,
    motion, motion_by_number, node_key, node_set, open_motions, record, record_by_tag,
    record_count, record_of, request, rules, serving_node_key, state_root, tip, transaction,
    user_key, withdrawal, writer_epoch, writer_epochs, writer_of,
};
pub use transaction::{
    Access, AccessEntry, AccessNumber, AccessPad, Anchor, Application, Approval, AuditDocument,
    CENTRE_KEYS_MAX, CentreKeyApproval, CentreKeyTransaction, CertificateRevocation, CheckError,
    CheckedTransaction, Contact, ContactAddress, ContactTransaction, DocumentTitle, GrantEntry,
    GrantTransaction, Institution, InstitutionName, KeyUse, Kind, MaskedTransactionId,
    MembershipChange, Motion, NextCentreKey, NodeKeyTransaction, PossessedSuccession, RecordNonce,
    RecordTransaction, Registrant, Registration, RequestStatement, RequestTransaction, Revocation,
    Signer, Succession, SuccessionTransaction, TRANSACTION_BYTES_MAX, TlsAuthority, Transaction,
    UserKey, Withdrawal, WriterEpochTransaction, check_transaction, decode_record_statement,
    encode_record_statement,
};
pub use view::{Changes, MemoryView, Overlay, View, ViewError};
