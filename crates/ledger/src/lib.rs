//! willis-ledger.
