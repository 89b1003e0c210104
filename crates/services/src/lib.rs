//! willis-services.
