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
use crate::parts;
use crate::record::{Record, VatRecord};
use crate::schema::{self, Kind};
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

/// So many words of a bit for each slot stand together.
const WORDS: usize = 4;
const PAGE: u64 = 64 * WORDS as u64;

/// What is marked of a part.
#[derive(Debug, Default)]
struct Marks {
    /// Slots from here on were given after the walk had begun: they are never removed.
    limit: u64,
    /// Pages with a bit for each slot, of those slots where any is marked: however far apart slots are, this grows
    /// with the records that were read.
    pages: HashMap<u64, [u64; WORDS]>,
}

impl Marks {
    /// Marks a slot; false if it was marked before.
    fn mark(&mut self, slot: Slot) -> bool {
        let (page, word, bit) = Self::place(slot);
        let word = &mut self.pages.entry(page).or_default()[word];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn is_marked(&self, slot: Slot) -> bool {
        let (page, word, bit) = Self::place(slot);
        slot.0 >= self.limit || self.pages.get(&page).is_some_and(|page| page[word] & bit != 0)
    }

    /// Page, word and bit of a slot.
    fn place(slot: Slot) -> (u64, usize, u64) {
        let within = slot.0 % PAGE;
        (slot.0 / PAGE, (within / 64) as usize, 1 << (within % 64))
    }
}

/// A walk through all parts of a store.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    parts: BTreeMap<PartId, Marks>,
    /// Where the vats live.
    vats: HashMap<PermanentId, PartId>,
    /// Marked, and to be looked at; and whether a record refers to it.
    frontier: Vec<(PartId, Slot, bool)>,
    looked_at: u64,
    slots: u64,
}

impl Walk {
    /// Nothing is marked yet: what vats have in memory must be, by [`Walk::mark`], and then the roots.
    pub(crate) fn new(
        store: &dyn Store,
        parts: impl IntoIterator<Item = PartId>,
    ) -> Result<Self, StoreError> {
        let mut walk = Self::default();
        for part in parts {
            let limit = parts::next_slot(store, part)?.0;
            walk.parts.insert(part, Marks { limit, pages: HashMap::new() });
            walk.slots = walk.slots.saturating_add(limit);
            let Some(vat) = schema::read(store, &schema::key(part, Kind::Vat, 0), VatRecord::decode)? else {
                // Without its roots all of it would be removed.
                return Err(parts::without_vat(store, part));
            };
            walk.vats.insert(PermanentId(vat.id), part);
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
                self.look_at(store, (part, kind, id), false)?;
            }
        }
        Ok(())
    }

    /// Notes that an actor is in use. One of a part that this walk does not know was made after it began.
    pub(crate) fn mark(&mut self, part: PartId, slot: Slot) {
        self.mark_as(part, slot, false);
    }

    fn mark_as(&mut self, part: PartId, slot: Slot, referred_to: bool) {
        if self.parts.get_mut(&part).is_some_and(|marks| marks.mark(slot)) {
            self.frontier.push((part, slot, referred_to));
        }
    }

    /// As [`Walk::mark`], for an actor of any vat. One of another store is none of ours.
    pub(crate) fn mark_far(&mut self, address: Address) {
        if let Some(part) = self.vats.get(&address.vat) {
            self.mark(*part, address.slot);
        }
    }

    fn look_at(
        &mut self,
        store: &dyn Store,
        (part, kind, id): (PartId, Kind, u64),
        referred_to: bool,
    ) -> Result<(), StoreError> {
        let key = schema::key(part, kind, id);
        let Some((near, far)) = schema::read(store, &key, |content| references(kind, id, content))? else {
            // What it led to is not to be removed: it may be all that is left.
            if referred_to {
                return Err(schema::corrupt(
                    &store.name(),
                    &key,
                    "it is referred to, and the record is missing",
                ));
            }
            // It was never written, and so refers to nothing: a ref that only memory has.
            return Ok(());
        };
        // A vat of another store may refer to what is gone; the others are written with what refers to them.
        let sure = kind != Kind::Exported;
        near.into_iter().for_each(|slot| self.mark_as(part, slot, sure));
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
                kind => self.look_at(store, (noted.part, kind, noted.id), false)?,
            }
            if noted.written && noted.kind == Kind::Actor && self.parts.contains_key(&noted.part) {
                self.frontier.push((noted.part, slot, false));
            }
        }
        let first = self.frontier.len().saturating_sub(most);
        let mut now = self.frontier.split_off(first);
        // Neighbours stand together in the store.
        now.sort_unstable();
        now.dedup();
        for (part, slot, referred_to) in now {
            self.look_at(store, (part, Kind::Actor, slot.0), referred_to)?;
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
        self.slots
    }

    /// How many records were looked at.
    pub(crate) fn looked_at(&self) -> u64 {
        self.looked_at
    }
}
