//! willis-scheme.
