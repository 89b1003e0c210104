//! willis-record.
