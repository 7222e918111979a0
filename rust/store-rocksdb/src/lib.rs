//! The [`Store`](goblins_core::store::Store) trait on RocksDB.
#![forbid(unsafe_code)]

mod errors;
mod lock;
mod options;
mod place;
mod snapshot;
mod store;
mod synced;

pub use lock::leave_locks_to_parent;
pub use store::RocksStore;
