//! The consortium blockchain's nodes as parties of the sharing protocol (the paper's 3.1 (6), 3.2.4;
//! interactions 7 to 10). What they agree on is the crates `ledger` and `chain`; this is what an
//! accounting node answers, and what a client believes of it.
//!
//! - Holds: the chain; per grant its shares, the trapdoors and the log key, apart and only while the
//!   grant lives; its consensus key; an HPKE key per validator epoch.
//! - Sees: pseudonymous transactions; which records a grant reaches; who reads when.
//! - Does: checks a grant, searches, re-encrypts after it has checked everything itself.
//! - Must not learn: a plaintext, a pseudonym, a keyword, a patient's identity.
//! - Trusts: no client and no single other node.

mod accounting_node;
mod query;
mod reply;
mod share_evidence;

pub(crate) use accounting_node::threshold_range;
pub use accounting_node::{
    AccountingNode, ContainerRequest, FinalChain, GrantPackage, GrantRefusal, GrantRequest,
    InTransaction, NodeKeyStanding, PendingShares, SealedReply, SearchRequest, ShareAnswer,
    ShareRefusal, ShareRequest, SharesRequested, WantProof, grant_is_over,
};
pub use query::{HITS_MAX, Hit, Hits, UNOPENED_MAX, WriterKeys, query};
pub use reply::{
    AgreedCentreKeys, AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs, Answer, BadReply,
    CentreKeyAnswer, GrantAnswer, KeyAnswer, Question, Reply, ReplyCollector, ReplyFailure,
    TAGS_MAX, answer_at,
};
pub use share_evidence::{NotProved, ShareEvidence};
