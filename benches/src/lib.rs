//! Shared parts of the benches.

pub mod python;

pub use goblins_kernel_bench as setup;
