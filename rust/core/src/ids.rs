//! Identifiers. Each is a type of its own, so that a slot is never taken for a turn.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A vat of this process. Counts from 0 (VAT-02).
    VatId(u64)
}
id! {
    /// An actor's number in its vat, given at its spawn and never used again. In a persistent vat it is
    /// also the actor's place in the store, so it survives restarts.
    Slot(u64)
}
id! {
    /// A turn of a vat. Counts from 1 in each process.
    TurnId(u64)
}
id! {
    /// A churn of a vat. Counts from 1 in each process (LOG-04).
    ChurnId(u64)
}
id! {
    /// A named part of a store: the keys of one vat.
    PartId(u32)
}
id! {
    /// A shape of a part: a label with the names of its fields, stored once and referred to by records.
    ShapeId(u32)
}
id! {
    /// Logical time of a vat (VAT-20).
    LamportTime(u64)
}

/// For tables by slot. Slots are given one after the other, by nobody who could choose them to collide.
pub(crate) type SlotHashing = BuildHasherDefault<SlotHasher>;

/// A table by slot.
pub(crate) type SlotMap<V> = HashMap<Slot, V, SlotHashing>;

/// Keeps neighbours together, since they are mostly used together, and spreads the rest.
#[derive(Default)]
pub(crate) struct SlotHasher(u64);

/// So many of the lower bits are the same for a number and its hash.
const NEIGHBOURS: u64 = 0xff;
/// The bits that tables compare first.
const TAG: u64 = 0xfe << 56;
/// The odd number next to 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for SlotHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let number = self.0.rotate_left(1) ^ number;
        let far = (number & !NEIGHBOURS).wrapping_mul(SPREAD);
        let place = (far ^ (far >> 32)).wrapping_add(number & NEIGHBOURS);
        self.0 = (place & !TAG) | (number.wrapping_mul(SPREAD) & TAG);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A vat's permanent id: made at its first spawn, and stored with it (PV-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermanentId(pub [u8; 16]);

impl fmt::Display for PermanentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a stored actor is found, from whichever vat and after each restart: its vat's permanent id, and its slot
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The vat.
    pub vat: PermanentId,
    /// The actor.
    pub slot: Slot,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} of the vat with the id {}", self.slot, self.vat)
    }
}
