//! willis-chain.
