//! Attacks on the chain, each mounted twice: on the literal construction (the paper's text, or where
//! it says nothing a textbook one), where it must succeed, and on ours, where it must fail. A test
//! that only showed the second half would pass just as well if it attacked nothing.
//!
//! Each test's comment says who attacks, what they hold, why the literal construction breaks and why
//! ours does not. What no rule of the chain can prevent stands there too. The attacks on the
//! cryptography alone are in the scheme's own tests.
//!
//! The attacker makes blocks and proofs byte by byte from `spec/chain.md` ([`attacker`]), never by
//! the crate's own functions, which would not make what is wrong.
#![allow(clippy::unwrap_used)]

#[path = "attacks/access_log.rs"]
mod access_log;
#[path = "attacks/attacker.rs"]
mod attacker;
#[path = "attacks/authors.rs"]
mod authors;
#[path = "attacks/blocks.rs"]
mod blocks;
#[path = "attacks/grants.rs"]
mod grants;
#[path = "attacks/index.rs"]
mod index;
#[path = "attacks/literal.rs"]
mod literal;
#[path = "attacks/records.rs"]
mod records;
