//! Finishing upgrades: stored actors that nobody has used since their code has changed are made, and stored as
//! the environment of today has them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::{ShapeId, Slot};
use crate::record::Shape;
use crate::survey::Found;
use crate::turn::Undo;
use crate::vat::Vat;

/// How many slots are looked at in one go: bounds the memory that a walk takes.
pub const WINDOW: u64 = 4096;

impl<H: Host> Vat<H> {
    /// The first actor that is written, in a slot or after it. To be called detached.
    pub fn next_stored(&self, from: Slot) -> Result<Option<Slot>, KernelError> {
        let Some(persistence) = self.persistence() else {
            return Err(KernelError::NotPersistent { vat: self.name().to_owned() });
        };
        Ok(persistence.claim.next_actor(from)?)
    }

    /// The stored actors in a range of slots. To be called detached.
    pub fn stored_actors(&self, slots: Range<u64>) -> Result<Vec<Found>, KernelError> {
        let Some(persistence) = self.persistence() else {
            return Err(KernelError::NotPersistent { vat: self.name().to_owned() });
        };
        Ok(persistence.claim.actors_in(slots)?)
    }
}

impl<H: Host> Churn<H> {
    /// All slots up to here may have a stored actor.
    pub fn slots_used(&self) -> u64 {
        self.work().next_slot
    }

    /// The first stored actor in a slot or after it, those with changes that are not written among them.
    pub fn next_stored(&self, cx: H::Cx<'_>, from: Slot) -> Result<Option<Slot>, H::Error> {
        let vat = self.vat();
        let written = H::detached(cx, || vat.next_stored(from)).map_err(|error| H::error(cx, error))?;
        let unsaved = self.work().saving.as_ref().and_then(|saving| saving.next_unsaved(from));
        Ok(written.into_iter().chain(unsaved).min())
    }

    /// All shapes that stored actors have, by number.
    pub fn stored_shapes(&self) -> Vec<Arc<Shape>> {
        self.work().saving.as_ref().map_or_else(Vec::new, |saving| saving.shapes().to_vec())
    }

    /// The stored actors in a range of slots, in order; those with changes that are not written as they will be.
    pub fn stored_actors(&self, cx: H::Cx<'_>, slots: Range<u64>) -> Result<Vec<Found>, H::Error> {
        let (vat, range) = (self.vat(), slots.clone());
        let written = H::detached(cx, || vat.stored_actors(range));
        let written = written.map_err(|error| H::error(cx, error))?;
        let all = written.into_iter().chain(self.unsaved_in(slots));
        let newest: BTreeMap<_, _> = all.map(|one| (one.slot, one.shape)).collect();
        Ok(newest.into_iter().map(|(slot, shape)| Found { slot, shape }).collect())
    }

    pub(crate) fn unsaved_in(&self, slots: Range<u64>) -> Vec<Found> {
        self.work().saving.as_ref().map_or_else(Vec::new, |saving| saving.unsaved_in(slots))
    }

    /// The shape that a stored actor has at present, before this turn ends. `None`: it is not stored.
    pub fn stored_shape(&self, cx: H::Cx<'_>, slot: Slot) -> Result<Option<ShapeId>, H::Error> {
        let vat = self.vat();
        let Some(persistence) = vat.persistence() else {
            return Err(H::error(cx, KernelError::NotPersistent { vat: vat.name().to_owned() }));
        };
        let record = match self.unsaved_record(persistence, slot) {
            Some(unsaved) => unsaved.map(Some),
            None => H::detached(cx, || persistence.claim.read_actor(slot)),
        };
        Ok(record.map_err(|error| H::error(cx, error.into()))?.map(|record| record.shape))
    }

    /// Refuses a slot that is referred to and holds no stored actor.
    pub fn check_stored(&self, cx: H::Cx<'_>, slot: Slot) -> Result<(), H::Error> {
        match self.stored_shape(cx, slot)? {
            Some(_) => Ok(()),
            None => Err(H::error(cx, self.missing_record(slot))),
        }
    }

    /// Makes those of some actors that are stored in a shape which is outdated, and stores them again at the end of
    /// this turn. Gives them, with those that their upgrades have used and thereby upgraded, in the shape that they
    /// had. Those that were removed, or upgraded before, are left out.
    pub fn renew(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        slots: &[Slot],
        is_outdated: impl Fn(&Shape) -> bool,
    ) -> Result<Vec<Found>, H::Error> {
        let outdated: Vec<bool> = self.stored_shapes().iter().map(|shape| is_outdated(shape)).collect();
        let find = |slot: Slot| -> Result<Option<Found>, H::Error> {
            let shape = self.stored_shape(cx, slot)?;
            let shape =
                shape.filter(|shape| outdated.get(shape.0 as usize).is_some_and(|outdated| *outdated));
            Ok(shape.map(|shape| Found { slot, shape }))
        };
        let before = self.work().undo.len();
        let mut renewed = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(found) = find(*slot)? else {
                continue;
            };
            let actor = self.stored_actor(cx, *slot)?;
            let behavior = self.behavior(cx, &actor)?;
            drop(behavior);
            self.work().undo.push(Undo::Upgraded { actor });
            renewed.push(found);
        }
        let mut seen: HashSet<Slot> = renewed.iter().map(|one| one.slot).collect();
        for slot in self.to_be_stored_since(before) {
            if seen.insert(slot) {
                renewed.extend(find(slot)?);
            }
        }
        Ok(renewed)
    }

    /// Actors that this turn stores again in any case, the first changes left out.
    fn to_be_stored_since(&self, first: usize) -> Vec<Slot> {
        let work = self.work();
        let changed = work.undo.iter().skip(first).filter_map(|change| match change {
            Undo::Changed { actor, .. } | Undo::Upgraded { actor } => Some(H::actor_cell(actor)),
            _ => None,
        });
        changed.filter(|cell| cell.is_stored()).map(|cell| cell.slot()).collect()
    }
}
