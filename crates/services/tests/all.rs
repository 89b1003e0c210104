//! Services over their interfaces: one program of all these tests, since each program instantiates
//! what it links anew and takes minutes to compile.

mod centre;
mod client;
mod cloud;
mod evidence;
mod grants;
mod hospital;
mod membership;
mod node;
mod openapi;
mod query;
mod served;
mod storage;
