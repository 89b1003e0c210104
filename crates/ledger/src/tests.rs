//! Tests of the whole: rules broken one at a time, random chains, proofs, layouts.

mod blocks;
mod chains;
mod layouts;
mod membership;
mod proofs;
mod transactions;

use std::time::Duration;

use scheme::{SigningKey, Timestamp};

use crate::block::{Block, Header, summarize};
use crate::execute::{AdmitError, ExecuteError, InvalidBlock, Refusal, admit, execute};
use crate::genesis::Settings;
use crate::testing::{FourHospitals, ToyChain, naive};
use crate::transaction::Transaction;

/// Settings with few, small blocks and short validator epochs.
fn small() -> Settings {
    let mut settings = Settings::standard();
    settings.anchor_interval = Duration::from_secs(3_600);
    settings.epoch_blocks = 4;
    settings
}

/// Settings under which no anchor and no border comes in the way.
fn plain() -> Settings {
    let mut settings = Settings::standard();
    settings.anchor_interval = Duration::from_secs(86_400);
    settings
}

/// A chain whose doctors are registered and whose writer epochs have begun.
fn opened(hospitals: &FourHospitals) -> ToyChain<'_> {
    let mut chain = ToyChain::new(hospitals);
    chain.grow(10, hospitals.opening());
    chain
}

/// A block with this body and a header altered by `alter`, signed anew by `key`. Size, count and
/// Merkle root fit the body before `alter` runs.
fn forge(
    chain: &ToyChain<'_>,
    block: &Block,
    body: Vec<Transaction>,
    key: &SigningKey,
    alter: impl FnOnce(&mut Header),
) -> Block {
    let encoded: Vec<_> = body.iter().map(Transaction::encode).collect();
    let summary = summarize(
        &chain.hospitals.consortium,
        encoded.iter().map(Vec::as_slice),
    );
    let mut header = *block.header();
    header.size = summary.size as u32;
    header.count = summary.count as u32;
    header.merkle_root = summary.merkle_root;
    alter(&mut header);
    header.sign(key);
    Block::new(header, body)
}

/// The rule that a block breaks.
fn broken(chain: &ToyChain<'_>, block: &Block) -> InvalidBlock {
    match execute(&chain.view, chain.tip(), block) {
        Err(ExecuteError::Invalid(rule)) => rule,
        other => panic!("expected an invalid block, got {other:?}"),
    }
}

/// Why the state refuses a transaction in a block `after_ms` after the last: the same reason for a
/// pool, for a leader, and for a voter who meets it in a block.
fn refused(chain: &ToyChain<'_>, after_ms: u64, transaction: Transaction) -> Refusal {
    let checked = chain.hospitals.checked(transaction.clone());
    let time = Timestamp::new(chain.tip().time.number() + after_ms);
    let to_pool = match admit(&chain.view, &checked, time) {
        Err(AdmitError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    };
    let proposal = chain.propose(after_ms, std::slice::from_ref(&checked));
    assert_eq!(proposal.refused, [(checked.id(), to_pool.clone())]);
    assert!(
        proposal
            .block
            .transactions()
            .iter()
            .all(|other| *other != transaction)
    );

    let key = chain.leader_key(proposal.block.header().view);
    let forced = forge(chain, &proposal.block, vec![transaction], key, |_| {});
    let met = broken(chain, &forced);
    assert_eq!(
        met,
        InvalidBlock::Refused {
            index: 0,
            source: to_pool.clone()
        }
    );
    to_pool
}
