//! A node of the willis chain.
mod config;
mod engine;
mod node;
mod pool;
mod receipts;
mod store;
mod store_fjall;
mod store_simulated;
pub use config::*;
pub use engine::*;
pub use node::*;
pub use pool::*;
pub use store::*;
pub use store_fjall::FjallStore;
pub use store_simulated::*;
