//! What all services' HTTP interfaces have in common: the server with its TLS and its bounds, who
//! calls, what is answered once, how often anyone may call, how a refusal looks.

mod body;
mod calls;
mod idempotency;
mod interface;
mod listeners;
mod measured;
mod rates;
mod refused;
mod server;

pub(crate) use body::{
    JSON_BYTES_MAX, Parameters, Problems, Raw, Received, Segment, SignedBytes, SignedJson,
    SignedNothing, json, json_type,
};
pub(crate) use calls::Calls;
pub(crate) use idempotency::{Answers, GivenOnce, SCHEMA as ANSWERS_SCHEMA};
pub(crate) use interface::Interface;
pub(crate) use listeners::{
    Events, Listeners, ListenersMax, Listening, event_schema, events, streamed,
};
pub(crate) use measured::Measured;
pub(crate) use rates::Buckets;
pub use rates::Rates;
pub(crate) use refused::Refused;
pub(crate) use server::Authorities;
pub use server::{Peer, Server, ServerError, ServerTls};
