//! The tags that are used: registered ones where there is one, else numbers of our own.

/// Unsigned bignum (RFC 8949).
pub(super) const POSITIVE: u64 = 2;
/// Negative bignum (RFC 8949).
pub(super) const NEGATIVE: u64 = 3;
/// Finite set (registered).
pub(super) const SET: u64 = 258;
/// A tuple: an array.
pub(super) const TUPLE: u64 = 28_100;
/// A frozenset: an array.
pub(super) const FROZENSET: u64 = 28_101;
/// A bytearray: a byte string.
pub(super) const BYTEARRAY: u64 = 28_102;
/// A reference to an actor: its index in the record's list of slots.
pub(super) const REFERENCE: u64 = 28_103;
/// A Map, a List or a Set: an array of its kind and a reference to its first page.
pub(super) const COLLECTION: u64 = 28_104;
