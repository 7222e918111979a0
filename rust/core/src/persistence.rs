//! What a vat has of its store: its part, its environment, and what is still to be written.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::by_hand::ByHand;
use crate::claim::Claim;
use crate::durability::Ticket;
use crate::host::Host;
use crate::ids::{Address, ShapeId, Slot, SlotMap};
use crate::readahead::Ahead;
use crate::record::{Record, Shape, VatRecord};
use crate::references::FarPromises;
use crate::registry::Registry;
use crate::residency::{Limits, Residents};
use crate::schema::{self, Kind, STORE_PART};
use crate::store::Batch;
use crate::survey::Found;
use crate::turn::Undo;

/// Where actors are spawned that are not stored, the counter of slots is written for so many at once.
const SLOTS_AHEAD: u64 = 255;

/// A vat's part of a store, and the environment that its actors are made with.
pub struct Persistence<H: Host> {
    pub(crate) claim: Claim<H>,
    /// Exchanged only by the one who runs the vat. Nothing of the host's is called or dropped under this lock.
    env: Mutex<Arc<H::Env>>,
    /// Slots of stored actors that died in memory since the last churn.
    pub(crate) dropped: Mutex<Vec<Slot>>,
    pub(crate) by_hand: ByHand,
    /// How much may be awake; not set: any number.
    pub(crate) limits: OnceLock<Limits>,
    /// The last churn had something to write.
    pub(crate) wrote: AtomicBool,
    /// How many actors were awake after the last churn.
    pub(crate) awake: AtomicUsize,
    /// Where vats of other stores are found, beside the registry of its own.
    pub(crate) registry: OnceLock<Arc<Registry<H>>>,
}

impl<H: Host> Persistence<H> {
    pub(crate) fn new(claim: Claim<H>, env: H::Env) -> Self {
        Self {
            claim,
            env: Mutex::new(Arc::new(env)),
            dropped: Mutex::new(Vec::new()),
            by_hand: ByHand::default(),
            limits: OnceLock::new(),
            wrote: AtomicBool::new(false),
            awake: AtomicUsize::new(0),
            registry: OnceLock::new(),
        }
    }

    /// The environment that the vat has at present.
    pub fn env(&self) -> Arc<H::Env> {
        self.env.lock().clone()
    }

    /// Its place in the store.
    pub fn claim(&self) -> &Claim<H> {
        &self.claim
    }

    /// Gives the vat another environment; the one before is to be dropped where the host may run code.
    pub(crate) fn exchange_env(&self, env: Arc<H::Env>) -> Arc<H::Env> {
        std::mem::replace(&mut *self.env.lock(), env)
    }
}

/// What is to be written, and what is known of the store.
pub(crate) struct Saving<H: Host> {
    /// Records that have not been written: those of this churn, or of all since the last save by hand.
    pub(crate) records: SlotMap<Vec<u8>>,
    /// All shapes by number; those from `shapes_saved` on have not been written.
    pub(crate) shapes: Vec<Arc<Shape>>,
    shapes_saved: usize,
    next_slot_saved: u64,
    /// The vat stands in the store.
    founded: bool,
    /// The vat's record, if it is to be written.
    pub(crate) vat: Option<VatRecord>,
    /// The roots; those that a turn wants instead as long as it is open.
    pub(crate) roots: Vec<Slot>,
    /// A save by hand was asked for.
    pub(crate) asked: bool,
    /// Records that will be asked for next, perhaps.
    pub(crate) ahead: Ahead,
    /// The stored actors that are in memory.
    pub(crate) live: Residents<H>,
    /// The promises for actors of other vats that are in memory.
    pub(crate) far: FarPromises<H>,
    /// Actors of other vats whose vats were told to store them, as far as it is known.
    pub(crate) far_kept: HashSet<Address>,
    /// Actors that vats of other stores refer to, with the name of one of these: to be written.
    exported: HashMap<Slot, String>,
    /// Those that were written, as far as it is known.
    exports_known: HashSet<Slot>,
    /// The last batch that what this vat knows depends on: its own, or that of a vat of the same store.
    pub(crate) ticket: Option<Ticket>,
}

/// As many things a vat remembers to have said before.
const REMEMBERED: usize = 4096;

/// Notes that something was said; false if that is known. Once there is too much to remember, all is forgotten: to say
/// it once more does no harm.
pub(crate) fn insert_bounded<T: Eq + Hash>(said: &mut HashSet<T>, what: T) -> bool {
    if said.len() >= REMEMBERED && !said.contains(&what) {
        said.clear();
    }
    said.insert(what)
}

impl<H: Host> Saving<H> {
    /// `roots`: those of a vat that stands in the store.
    pub(crate) fn new(shapes: Vec<Arc<Shape>>, next_slot: Slot, roots: Option<Vec<Slot>>) -> Self {
        Self {
            records: SlotMap::default(),
            shapes_saved: shapes.len(),
            shapes,
            next_slot_saved: next_slot.0,
            founded: roots.is_some(),
            vat: None,
            roots: roots.unwrap_or_default(),
            asked: false,
            ahead: Ahead::default(),
            live: Residents::new(),
            far: FarPromises::default(),
            far_kept: HashSet::new(),
            exported: HashMap::new(),
            exports_known: HashSet::new(),
            ticket: None,
        }
    }

    /// Whether an actor has changes that are not written.
    pub(crate) fn is_unsaved(&self, slot: Slot) -> bool {
        self.records.contains_key(&slot)
    }

    /// The first actor in a slot or after it that has changes which are not written.
    pub(crate) fn next_unsaved(&self, from: Slot) -> Option<Slot> {
        self.records.keys().copied().filter(|slot| *slot >= from).min()
    }

    /// The actors in a range of slots that have changes which are not written, with their shape as it will be.
    pub(crate) fn unsaved_in(&self, slots: Range<u64>) -> Vec<Found> {
        let found =
            |slot: Slot, content: &Vec<u8>| Record::shape_of(content).map(|shape| Found { slot, shape });
        if slots.end.saturating_sub(slots.start) < self.records.len() as u64 {
            return slots.map(Slot).filter_map(|slot| found(slot, self.records.get(&slot)?)).collect();
        }
        let records = self.records.iter().filter(|(slot, _)| slots.contains(&slot.0));
        records.filter_map(|(slot, content)| found(*slot, content)).collect()
    }

    pub(crate) fn shape(&self, id: ShapeId) -> Option<Arc<Shape>> {
        self.shapes.get(id.0 as usize).cloned()
    }

    /// All shapes, by number.
    pub(crate) fn shapes(&self) -> &[Arc<Shape>] {
        &self.shapes
    }

    pub(crate) fn shape_id(&mut self, shape: &Arc<Shape>) -> ShapeId {
        let same = |known: &Arc<Shape>| Arc::ptr_eq(known, shape);
        let found = self.shapes.iter().position(same).or_else(|| {
            let equal = self.shapes.iter().position(|known| known == shape)?;
            // From now on it is found by its address.
            self.shapes[equal] = shape.clone();
            Some(equal)
        });
        let index = found.unwrap_or_else(|| {
            self.shapes.push(shape.clone());
            self.shapes.len() - 1
        });
        ShapeId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// What a collection must keep for the vat: the stored actors in memory, those of other vats that are waited
    /// for, and what is about to be written with all that it refers to.
    pub(crate) fn in_use(&self) -> (Vec<Slot>, Vec<Address>) {
        let (mut slots, mut far) = self.unwritten();
        slots.extend(self.live.slots());
        far.extend(self.far.addresses());
        (slots, far)
    }

    /// Those of some actors that are in memory, or about to be referred to.
    pub(crate) fn used_among(&self, slots: impl Iterator<Item = Slot>) -> Vec<Slot> {
        let unwritten: HashSet<Slot> = self.unwritten().0.into_iter().collect();
        slots.filter(|slot| self.live.contains(*slot) || unwritten.contains(slot)).collect()
    }

    fn unwritten(&self) -> (Vec<Slot>, Vec<Address>) {
        let mut slots: Vec<_> = self.records.keys().chain(self.exported.keys()).copied().collect();
        let mut far = Vec::new();
        for (near, others) in self.records.values().filter_map(|content| Record::references_of(content)) {
            slots.extend(near);
            far.extend(others);
        }
        (slots, far)
    }

    /// Notes that a vat of another store refers to an actor in its state.
    pub(crate) fn export(&mut self, slot: Slot, for_vat: &str) {
        if insert_bounded(&mut self.exports_known, slot) {
            self.exported.insert(slot, for_vat.to_owned());
        }
    }

    /// What is to be written now, if anything is. `by_hand`: only what goes with new roots, or what was asked for;
    /// and the counter of slots, if the churn spawned.
    pub(crate) fn batch(
        &mut self,
        claim: &Claim<H>,
        mut next_slot: u64,
        by_hand: bool,
        done: &[Undo<H>],
    ) -> Option<Batch> {
        let due = std::mem::take(&mut self.asked) || !by_hand || self.vat.is_some();
        let changed = !self.records.is_empty() || self.vat.is_some() || !self.exported.is_empty();
        let all = due && changed;
        if !all {
            // Others may refer to actors that are not stored: their slots must not be given away after a restart.
            let spawned = || done.iter().any(|undo| matches!(undo, Undo::Spawned { .. }));
            if !self.founded || next_slot <= self.next_slot_saved || !spawned() {
                return None;
            }
            next_slot += SLOTS_AHEAD;
        }
        self.founded = true;
        let mut batch = Batch::new();
        let part = claim.part();
        let mut put = |key: Vec<u8>, content: Vec<u8>| {
            let value = schema::seal(&key, content);
            batch.put(key, value);
        };
        if next_slot > self.next_slot_saved {
            let mut content = Vec::new();
            schema::put_varint(&mut content, next_slot);
            put(schema::key(part, Kind::NextSlot, 0), content);
            self.next_slot_saved = next_slot;
        }
        if !all {
            return Some(batch);
        }
        if let Some(vat) = self.vat.take() {
            put(schema::key(STORE_PART, Kind::PartName, u64::from(part.0)), claim.name().as_bytes().to_vec());
            put(schema::key(part, Kind::Vat, 0), vat.encode());
        }
        for (id, shape) in (0u32..).zip(&self.shapes).skip(self.shapes_saved) {
            put(schema::shape_key(part, ShapeId(id)), shape.encode());
        }
        self.shapes_saved = self.shapes.len();
        for (slot, for_vat) in std::mem::take(&mut self.exported) {
            put(schema::key(part, Kind::Exported, slot.0), for_vat.into_bytes());
        }
        // A drained map keeps its size, and every later churn would pay for the largest one.
        let mut records: Vec<_> = std::mem::take(&mut self.records).into_iter().collect();
        // Neighbours are written next to each other, which stores do faster.
        records.sort_unstable_by_key(|(slot, _)| *slot);
        for (slot, content) in records {
            self.ahead.forget(slot);
            put(schema::actor_key(part, slot), content);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{REMEMBERED, insert_bounded};

    #[test]
    fn what_was_said_is_not_remembered_without_end() {
        let mut said = HashSet::new();
        for number in 0..10 * REMEMBERED {
            assert!(insert_bounded(&mut said, number));
            assert!(!insert_bounded(&mut said, number), "not said twice in a row");
            assert!(said.len() <= REMEMBERED);
        }
    }
}
