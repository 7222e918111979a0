//! From records to behaviors: a ghost is made when it is first used (guarantee G7).

use std::rc::Rc;

use crate::actor::{ActorCell, Life};
use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::Slot;
use crate::schema;
use crate::turn::Undo;

impl<H: Host> Churn<H> {
    /// The actor's behavior; a ghost is made from its record first (guarantee G7).
    pub fn behavior(self: &Rc<Self>, cx: H::Cx<'_>, actor: &H::Actor) -> Result<H::Behavior, H::Error> {
        let cell = H::actor_cell(actor);
        let gone = {
            let mut state = cell.state();
            state.used = true;
            match state.life() {
                Life::Live(behavior) => return Ok(H::clone_behavior(cx, behavior)),
                Life::Gone => true,
                Life::Ghost => false,
            }
        };
        if gone {
            return Err(self.no_such_actor(cx, cell));
        }
        let Some(_making) = Making::begin(cell) else {
            let actor = H::describe_actor(cx, actor);
            return Err(H::error(cx, KernelError::BeingMade { actor }));
        };
        self.rehydrate(cx, actor)
    }

    fn rehydrate(self: &Rc<Self>, cx: H::Cx<'_>, actor: &H::Actor) -> Result<H::Behavior, H::Error> {
        let cell = H::actor_cell(actor);
        let slot = cell.slot();
        if let Some(made) = self.remake(cx, actor) {
            return made.and_then(|(behavior, upgraded)| self.enliven(cx, actor, behavior, upgraded));
        }
        let vat = self.vat();
        let Some(persistence) = vat.persistence() else {
            return Err(H::error(cx, KernelError::NotPersistent { vat: vat.name().to_owned() }));
        };
        let record = self.fetch(cx, persistence, slot);
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) => return Err(H::error(cx, self.missing_record(slot))),
            Err(error) => return Err(H::error(cx, error.into())),
        };
        let corrupt = |reason: &str| {
            let key = schema::actor_key(persistence.claim.part(), slot);
            H::error(cx, schema::corrupt(&persistence.claim.storage().name(), &key, reason).into())
        };
        let (shape, next) = {
            let work = self.work();
            (work.saving.as_ref().and_then(|saving| saving.shape(record.shape)), work.next_slot)
        };
        let Some(shape) = shape else {
            return Err(corrupt(&format!("its shape {} is not in the store", record.shape)));
        };
        // Another actor would get that slot one day.
        if let Some(never) = record.slots.iter().find(|slot| slot.0 >= next) {
            return Err(corrupt(&format!("it refers to slot {never}, which was never used")));
        }
        let refs = record.slots.iter().map(|slot| self.stored_actor(cx, *slot)).collect::<Result<_, _>>()?;
        let far =
            record.far.iter().map(|address| self.far_promise(cx, *address)).collect::<Result<_, _>>()?;
        let env = persistence.env();
        let (behavior, upgraded) = H::rehydrate(cx, &env, actor, &shape, &record, refs, far)?;
        let behavior = self.enliven(cx, actor, behavior, upgraded)?;
        self.woke(slot, record.size());
        Ok(behavior)
    }

    /// The error for an actor that is referred to, and whose record is lost.
    pub(crate) fn missing_record(&self, slot: Slot) -> KernelError {
        let (vat, slot_number) = (self.vat().name().to_owned(), slot.0);
        match self.vat().persistence() {
            Some(persistence) => KernelError::MissingRecord {
                slot: slot_number,
                vat,
                store: persistence.claim.storage().name(),
                place: schema::describe(&schema::actor_key(persistence.claim.part(), slot)),
            },
            None => KernelError::NotPersistent { vat },
        }
    }

    /// A ghost gets the behavior that was made for it.
    fn enliven(
        &self,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        behavior: H::Behavior,
        upgraded: bool,
    ) -> Result<H::Behavior, H::Error> {
        let cell = H::actor_cell(actor);
        let life = Life::Live(H::clone_behavior(cx, &behavior));
        let before = {
            let mut state = cell.state();
            state.used = false;
            state.set_life(life)
        };
        drop(before);
        let mut work = self.work();
        work.undo.push(Undo::Rehydrated { actor: H::clone_actor(cx, actor) });
        if upgraded {
            work.undo.push(Undo::Upgraded { actor: H::clone_actor(cx, actor) });
        }
        drop(work);
        Ok(behavior)
    }
}

/// An actor is being made from its record, for as long as this lives.
struct Making<'a, H: Host>(&'a ActorCell<H>);

impl<'a, H: Host> Making<'a, H> {
    /// `None`: it is being made already, by the code that now wants it.
    fn begin(cell: &'a ActorCell<H>) -> Option<Self> {
        let making = std::mem::replace(&mut cell.state().making, true);
        (!making).then_some(Self(cell))
    }
}

impl<H: Host> Drop for Making<'_, H> {
    fn drop(&mut self) {
        self.0.state().making = false;
    }
}
