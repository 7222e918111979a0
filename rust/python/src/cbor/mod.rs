//! Python values as CBOR (RFC 8949), without any other representation between.
//!
//! Only exact types are written: what is read back has the type it had. Equal scalars, sets and sequences
//! give equal bytes; a dict keeps its order, which its user can see.

mod decode;
mod encode;
mod identifiers;
mod known;
mod numbers;
pub(crate) mod promises;
mod records;
mod tags;
#[cfg(test)]
mod tests;
mod times;

pub(crate) use decode::{Actors, DecodeError, NoActors, decode, decode_all};
pub(crate) use encode::{Handle, NoRefs, NotPortable, Refs, encode};
pub(crate) use records::{Head, Problem};
pub(crate) use tags::REFERENCE;

/// How deeply containers may be nested.
pub(crate) const MAX_DEPTH: usize = 200;
