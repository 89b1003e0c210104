//! willis-parties.
