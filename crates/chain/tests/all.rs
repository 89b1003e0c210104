//! A node and the engine in it: one program of all these tests, since each program instantiates
//! what it links anew and takes minutes to compile.

mod boundaries;
mod epochs;
mod simulation;
mod sockets;
mod store_conformance;
mod support;
mod verification;
