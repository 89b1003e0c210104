//! Attacks, each mounted twice: on the literal construction (the paper's equations, or where it gives
//! none a published one), where it must succeed, and on ours, where it must fail. A test that only
//! showed the second half would pass just as well if it attacked nothing.
//!
//! Each test's comment says who attacks, what they hold, why the literal construction breaks and why
//! ours does not. What an attacker would have to hold for ours to break stands beside it where it is
//! not obvious, as a control that the attack's arithmetic is right.
//!
//! The literal constructions live in [`literal`], the attacker's arithmetic, which computes what
//! `spec/scheme.md` says without going through the crate, in [`model`].
#![allow(clippy::unwrap_used)]

mod support;

#[path = "attacks/access_log.rs"]
mod access_log;
#[path = "attacks/containers.rs"]
mod containers;
#[path = "attacks/grants.rs"]
mod grants;
#[path = "attacks/index.rs"]
mod index;
#[path = "attacks/keys.rs"]
mod keys;
#[path = "attacks/literal.rs"]
mod literal;
#[path = "attacks/model.rs"]
mod model;
#[path = "attacks/two_keys.rs"]
mod two_keys;
