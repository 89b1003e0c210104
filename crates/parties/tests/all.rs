//! Parties against each other: one program of all these tests, since each program instantiates
//! what it links anew and takes minutes to compile.

mod encodings;
mod keeping;
mod node_checks;
mod paper_attacks;
mod referral;
mod refusals;
mod takeover;
mod teams;
mod world;
