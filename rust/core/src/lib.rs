//! The kernel of Goblins.
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod ids;
pub mod memory;
pub mod store;
