//! Which actors of a store can be reached: a walk over the slots that records refer to, while vats go on writing.
//!
//! No record is decoded further than its slots, and no code of a user is run. What a record refers to is marked and
//! looked at in its turn; the walk has come to its end when nothing is left to look at.
//!
//! While it goes on, vats report to its [`Barrier`] which records they have written (they are looked at again) and
//! which actors they have brought into memory (they are marked). What vats had in memory before is marked at the
//! beginning. So whatever a vat may still get hold of is marked in the end: from memory it was reported, from a
//! record it was walked to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::ids::{Address, PartId, PermanentId, Slot};
use crate::record::{Record, VatRecord};
use crate::schema::{self, Kind, Reader};
use crate::store::{Batch, Change, Store, StoreError};

/// Kinds of record that are where a walk begins.
const ROOTS: [Kind; 2] = [Kind::Vat, Kind::Exported];

/// Kinds of record that refer to actors.
const REFERRING: [Kind; 3] = [Kind::Vat, Kind::Exported, Kind::Actor];

/// Actors of the same vat, and of others, that a record refers to. Every kind of reference that is stored must be
/// named here: an actor that is reached in no other way is removed.
fn references(kind: Kind, id: u64, content: &[u8]) -> Option<(Vec<Slot>, Vec<Address>)> {
    match kind {
        Kind::Actor => Record::references_of(content),
        Kind::Vat => Some((VatRecord::decode(content)?.roots, Vec::new())),
        Kind::Exported => Some((vec![Slot(id)], Vec::new())),
        _ => Some(Default::default()),
    }
}

/// A record that was written, or an actor that came into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Noted {
    part: PartId,
    kind: Kind,
    id: u64,
    /// It was written: what it refers to has to be looked at again.
    written: bool,
}

/// Where vats report what a walk must hear of.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    active: AtomicBool,
    noted: Mutex<HashSet<Noted>>,
    asked: Mutex<HashSet<Address>>,
}

impl Barrier {
    pub(crate) fn start(&self) {
        self.active.store(true, Ordering::SeqCst);
    }

    pub(crate) fn stop(&self) {
        self.active.store(false, Ordering::SeqCst);
        self.noted.lock().clear();
        self.asked.lock().clear();
    }

    /// To be called before anybody can see the reference.
    pub(crate) fn loaded(&self, part: PartId, slot: Slot) {
        if self.active.load(Ordering::SeqCst) {
            self.noted.lock().insert(Noted { part, kind: Kind::Actor, id: slot.0, written: false });
        }
    }

    /// To be called before anybody can see the promise that stands for an actor of another vat.
    pub(crate) fn asked(&self, address: Address) {
        if self.active.load(Ordering::SeqCst) {
            self.asked.lock().insert(address);
        }
    }

    /// To be called when the batch has been written, as long as its references are in memory still.
    pub(crate) fn wrote(&self, batch: &Batch) {
        if !self.active.load(Ordering::SeqCst) {
            return;
        }
        let mut noted = self.noted.lock();
        for change in batch.changes() {
            if let Change::Put(key, _) = change
                && let Some((part, kind, id)) = schema::parts_of(key)
                && REFERRING.contains(&kind)
            {
                noted.insert(Noted { part, kind, id, written: true });
            }
        }
    }

    fn take(&self) -> HashSet<Noted> {
        std::mem::take(&mut self.noted.lock())
    }
}

/// What is marked of a part.
#[derive(Debug, Default)]
struct Marks {
    /// Slots from here on were given after the walk had begun: they are never removed.
    limit: u64,
    /// A bit for each slot below.
    bits: Vec<u64>,
    /// Those of the others that were looked at.
    newer: HashSet<u64>,
}

impl Marks {
    /// Marks a slot; false if it was marked before.
    fn mark(&mut self, slot: Slot) -> bool {
        if slot.0 >= self.limit {
            return self.newer.insert(slot.0);
        }
        let (word, bit) = (usize::try_from(slot.0 / 64).unwrap_or(usize::MAX), 1 << (slot.0 % 64));
        match self.bits.get_mut(word) {
            Some(word) => {
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
            None => false,
        }
    }

    fn is_marked(&self, slot: Slot) -> bool {
        let word = usize::try_from(slot.0 / 64).unwrap_or(usize::MAX);
        slot.0 >= self.limit || self.bits.get(word).is_some_and(|word| word & (1 << (slot.0 % 64)) != 0)
    }
}

/// A walk through all parts of a store.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    parts: BTreeMap<PartId, Marks>,
    /// Where the vats live.
    vats: HashMap<PermanentId, PartId>,
    /// Marked, and to be looked at.
    frontier: Vec<(PartId, Slot)>,
    looked_at: u64,
}

impl Walk {
    /// Nothing is marked yet: what vats have in memory must be, by [`Walk::mark`], and then the roots.
    pub(crate) fn new(
        store: &dyn Store,
        parts: impl IntoIterator<Item = PartId>,
    ) -> Result<Self, StoreError> {
        let mut walk = Self::default();
        for part in parts {
            let limit = next_slot(store, part)?;
            let words = usize::try_from(limit.div_ceil(64)).unwrap_or(usize::MAX);
            walk.parts.insert(part, Marks { limit, bits: vec![0; words], newer: HashSet::new() });
            let vat = schema::read(store, &schema::key(part, Kind::Vat, 0), VatRecord::decode)?;
            walk.vats.extend(vat.map(|vat| (PermanentId(vat.id), part)));
        }
        Ok(walk)
    }

    /// Marks the roots of all parts.
    pub(crate) fn add_roots(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let parts: Vec<_> = self.parts.keys().copied().collect();
        for (part, kind) in parts.into_iter().flat_map(|part| ROOTS.map(|kind| (part, kind))) {
            let mut found = Vec::new();
            let (start, end) = schema::range(part, kind);
            store.scan(&start, &end, &mut |key, _| {
                found.extend(schema::id_of(key));
                ControlFlow::Continue(())
            })?;
            for id in found {
                self.look_at(store, part, kind, id)?;
            }
        }
        Ok(())
    }

    /// Notes that an actor is in use. One of a part that this walk does not know was made after it began.
    pub(crate) fn mark(&mut self, part: PartId, slot: Slot) {
        if self.parts.get_mut(&part).is_some_and(|marks| marks.mark(slot)) {
            self.frontier.push((part, slot));
        }
    }

    /// As [`Walk::mark`], for an actor of any vat. One of another store is none of ours.
    pub(crate) fn mark_far(&mut self, address: Address) {
        if let Some(part) = self.vats.get(&address.vat) {
            self.mark(*part, address.slot);
        }
    }

    fn look_at(&mut self, store: &dyn Store, part: PartId, kind: Kind, id: u64) -> Result<(), StoreError> {
        let key = schema::key(part, kind, id);
        // One that is missing was never written, and so refers to nothing: a ref that only memory has.
        let found = schema::read(store, &key, |content| references(kind, id, content))?;
        let (near, far) = found.unwrap_or_default();
        near.into_iter().for_each(|slot| self.mark(part, slot));
        far.into_iter().for_each(|address| self.mark_far(address));
        self.looked_at += 1;
        Ok(())
    }

    /// Looks at no more than `most` records. False when nothing is left to look at.
    pub(crate) fn step(
        &mut self,
        store: &dyn Store,
        barrier: &Barrier,
        most: usize,
    ) -> Result<bool, StoreError> {
        let asked = std::mem::take(&mut *barrier.asked.lock());
        asked.into_iter().for_each(|address| self.mark_far(address));
        for noted in barrier.take() {
            let slot = Slot(noted.id);
            match noted.kind {
                Kind::Actor => self.mark(noted.part, slot),
                kind => self.look_at(store, noted.part, kind, noted.id)?,
            }
            if noted.written && noted.kind == Kind::Actor && self.parts.contains_key(&noted.part) {
                self.frontier.push((noted.part, slot));
            }
        }
        let first = self.frontier.len().saturating_sub(most);
        let mut now = self.frontier.split_off(first);
        // Neighbours stand together in the store.
        now.sort_unstable();
        now.dedup();
        for (part, slot) in now {
            self.look_at(store, part, Kind::Actor, slot.0)?;
        }
        Ok(!self.frontier.is_empty())
    }

    /// Walks until nothing is left to look at.
    pub(crate) fn finish(&mut self, store: &dyn Store, barrier: &Barrier) -> Result<(), StoreError> {
        while self.step(store, barrier, usize::MAX)? {}
        Ok(())
    }

    /// Whether an actor can't be reached, if the walk has come to its end.
    pub(crate) fn is_garbage(&self, part: PartId, slot: Slot) -> bool {
        self.parts.get(&part).is_some_and(|marks| !marks.is_marked(slot))
    }

    /// How many slots had been given in all parts when the walk began.
    pub(crate) fn slots(&self) -> u64 {
        self.parts.values().map(|marks| marks.limit).sum()
    }

    /// How many records were looked at.
    pub(crate) fn looked_at(&self) -> u64 {
        self.looked_at
    }
}

/// The lowest slot of a part that was never used.
pub(crate) fn next_slot(store: &dyn Store, part: PartId) -> Result<u64, StoreError> {
    let key = schema::key(part, Kind::NextSlot, 0);
    Ok(schema::read(store, &key, |content| Reader::new(content).varint())?.unwrap_or(0))
}
