//! willis-workstation.
