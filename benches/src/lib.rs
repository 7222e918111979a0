//! Shared parts of the benches.

pub mod python;
pub mod setup;
