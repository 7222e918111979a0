//! Finishing upgrades: stored actors that nobody has used since their code has changed are made, and stored as
//! the environment of today has them.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::Slot;
use crate::record::Shape;
use crate::survey::Found;
use crate::turn::Undo;
use crate::vat::Vat;

/// How many slots are looked at in one go: bounds the memory that a walk takes.
pub const WINDOW: u64 = 4096;

impl<H: Host> Vat<H> {
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

    /// All shapes that stored actors have, by number.
    pub fn stored_shapes(&self) -> Vec<Arc<Shape>> {
        self.work().saving.as_ref().map_or_else(Vec::new, |saving| saving.shapes().to_vec())
    }

    /// Makes a stored actor, and stores it again at the end of this turn. One that was removed is left out:
    /// false.
    pub fn renew(self: &Rc<Self>, cx: H::Cx<'_>, slot: Slot) -> Result<bool, H::Error> {
        let vat = self.vat();
        let Some(persistence) = vat.persistence() else {
            return Err(H::error(cx, KernelError::NotPersistent { vat: vat.name().to_owned() }));
        };
        let record = H::detached(cx, || persistence.claim.read_actor(slot));
        if record.map_err(|error| H::error(cx, error.into()))?.is_none() {
            return Ok(false);
        }
        let actor = self.stored_actor(cx, slot)?;
        let behavior = self.behavior(cx, &actor)?;
        drop(behavior);
        self.work().undo.push(Undo::Upgraded { actor });
        Ok(true)
    }
}
