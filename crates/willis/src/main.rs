//! The willis binary.
fn main() {}
