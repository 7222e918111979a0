//! Portraits: what a turn changed is described at its end, and written with its churn.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::actor::{ActorCell, Life};
use crate::churn::Churn;
use crate::error::KernelError;
use crate::history::Purpose;
use crate::host::Host;
use crate::ids::{LamportTime, Slot, SlotHashing, SlotMap};
use crate::persistence::Persistence;
use crate::promise::{Progress, Seen};
use crate::record::{Portrait, Record, VatRecord};
use crate::store::{Batch, StoreError};
use crate::trail::Tracks;
use crate::turn::Undo;

/// The records of actors, and the actors.
struct Described<H: Host> {
    records: SlotMap<Vec<u8>>,
    actors: Vec<H::Actor>,
}

impl<H: Host> Churn<H> {
    /// Makes an actor a root: it will be stored at the end of this turn.
    pub(crate) fn adopt(&self, cx: H::Cx<'_>, actor: &H::Actor) {
        if !H::actor_cell(actor).set_stored(true) {
            let actor = H::clone_actor(cx, actor);
            self.work().undo.push(Undo::Stored { actor });
        }
    }

    pub(crate) fn set_vat_record(&self, record: VatRecord) {
        if let Some(saving) = &mut self.work().saving {
            saving.roots.clone_from(&record.roots);
            saving.vat = Some(record);
        }
    }

    /// Roots as far as messages go: those of the vat's record are others until that is set. Gives those before.
    pub(crate) fn exchange_roots(&self, roots: Vec<Slot>) -> Vec<Slot> {
        match &mut self.work().saving {
            Some(saving) => std::mem::replace(&mut saving.roots, roots),
            None => Vec::new(),
        }
    }

    /// Takes the portraits of what the open turn changed, and of what thereby must be stored for the first
    /// time. An error is that of the turn: nothing of it is kept (guarantee G8).
    pub(crate) fn seal(self: &Rc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let Some(persistence) = self.vat().persistence() else {
            return Ok(());
        };
        let mut scanned = 0;
        let todo = self.changed(cx, &mut scanned);
        if todo.is_empty() {
            return Ok(());
        }
        let shapes = self.shapes_known();
        let described = self.describe(cx, persistence, todo, scanned).and_then(|described| {
            for actor in &described.actors {
                let size = described.records.get(&H::actor_cell(actor).slot()).map_or(0, Vec::len);
                self.remember(cx, actor, size)?;
            }
            Ok(described.records)
        });
        let mut work = self.work();
        let Some(saving) = &mut work.saving else {
            return described.map(drop);
        };
        if described.is_err() {
            // No actor has those that are new.
            saving.shapes.truncate(shapes);
        }
        saving.records.extend(described?);
        Ok(())
    }

    /// Takes the portraits that [`Churn::seal`] would take, and forgets them.
    pub(crate) fn try_seal(self: &Rc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let Some(persistence) = self.vat().persistence() else {
            return Ok(());
        };
        let mut scanned = 0;
        let todo = self.changed(cx, &mut scanned);
        let shapes = self.shapes_known();
        let described = self.describe(cx, persistence, todo, scanned);
        if let Some(saving) = &mut self.work().saving {
            saving.shapes.truncate(shapes);
        }
        described.map(drop)
    }

    fn shapes_known(&self) -> usize {
        self.work().saving.as_ref().map_or(0, |saving| saving.shapes.len())
    }

    /// The records of the actors in `todo`, and of all that must be stored with them.
    fn describe(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        persistence: &Persistence<H>,
        mut todo: Vec<H::Actor>,
        mut scanned: usize,
    ) -> Result<Described<H>, H::Error> {
        let env = persistence.env();
        let mut sealed = SlotMap::with_capacity_and_hasher(todo.len(), SlotHashing::default());
        let mut fresh = Vec::new();
        while let Some(actor) = todo.pop() {
            let portrait = match self.portrait(cx, &env, &actor) {
                Ok(portrait) => portrait,
                Err(error) => return Err(self.traced(cx, error, &actor, Tracks { sealed, todo })),
            };
            let mut slots = Vec::with_capacity(portrait.refs.len());
            for target in portrait.refs {
                debug_assert!(self.is_near(&target), "the host has told near from far");
                let cell = H::actor_cell(&target);
                slots.push(cell.slot());
                if !cell.set_stored(true) {
                    self.work().undo.push(Undo::Stored { actor: H::clone_actor(cx, &target) });
                    todo.push(target);
                }
            }
            H::actor_cell(&actor).set_restless(portrait.holds_promises);
            let far = self.keep_far(portrait.far);
            self.describe_when_settled(cx, &actor, portrait.unsettled);
            if let Some(saving) = &mut self.work().saving {
                let shape = saving.shape_id(&portrait.shape);
                let record = Record { shape, name: portrait.name, slots, far, payload: portrait.payload };
                sealed.insert(H::actor_cell(&actor).slot(), record.encode());
            }
            fresh.push(actor);
            if todo.is_empty() {
                // A portrait may run any code of the host: what that changed is described (again).
                todo = self.changed(cx, &mut scanned);
            }
        }
        Ok(Described { records: sealed, actors: fresh })
    }

    /// The portrait of an actor, in the open turn.
    pub(crate) fn portrait(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        env: &H::Env,
        actor: &H::Actor,
    ) -> Result<Portrait<H::Actor, H::Promise>, H::Error> {
        self.must_exist(cx, actor)?;
        self.only_look(|| H::portrait(cx, env, actor))
    }

    /// The stored actors that this turn changed, each once, leaving out the first `scanned` changes.
    fn changed(&self, cx: H::Cx<'_>, scanned: &mut usize) -> Vec<H::Actor> {
        let mut work = self.work();
        // What changes from now on (by code that takes portraits) is noted again.
        work.epoch += 1;
        let mut seen = HashSet::with_hasher(SlotHashing::default());
        let mut changed = Vec::new();
        let first = std::mem::replace(scanned, work.undo.len());
        for undo in &work.undo[first..] {
            let actor = match undo {
                Undo::Changed { actor, .. }
                | Undo::Replaced { actor, .. }
                | Undo::Touched { actor, .. }
                | Undo::Upgraded { actor } => actor,
                // Of those stored since the first look the portrait has been taken.
                Undo::Stored { actor } if first == 0 => actor,
                Undo::Stored { .. }
                | Undo::Spawned { .. }
                | Undo::Rehydrated { .. }
                | Undo::Environment { .. } => continue,
            };
            let cell = H::actor_cell(actor);
            // One that could not be made has changed nothing that anybody will see.
            let is_ghost = matches!(cell.state().life(), Life::Ghost);
            if cell.is_stored() && !is_ghost && seen.insert(cell.slot()) {
                changed.push(H::clone_actor(cx, actor));
            }
        }
        changed
    }

    pub(crate) fn no_such_actor(&self, cx: H::Cx<'_>, cell: &ActorCell<H>) -> H::Error {
        let (slot, vat) = (cell.slot().0, cell.vat().name().to_owned());
        H::error(
            cx,
            match self.looks_back() {
                true => KernelError::NotYetSpawned { slot, vat },
                false => KernelError::NoSuchActor { slot, vat },
            },
        )
    }

    /// An error for an actor whose spawn was undone: somebody kept a reference to it.
    fn must_exist(&self, cx: H::Cx<'_>, actor: &H::Actor) -> Result<(), H::Error> {
        let cell = H::actor_cell(actor);
        let gone = matches!(cell.state().life(), Life::Gone);
        if gone { Err(self.no_such_actor(cx, cell)) } else { Ok(()) }
    }

    /// Notes that this vat has seen an outcome: it may be that of a batch of another vat, and what this vat
    /// does now comes later.
    pub(crate) fn has_seen(&self, promise: &H::Promise) {
        let (by_store, cause) = {
            let state = H::promise_cell(promise).state();
            (matches!(state.progress, Progress::Settled(_, Seen::ByStore(_))), state.cause)
        };
        if cause.vat.is_some_and(|vat| vat != self.vat().id()) {
            let mut work = self.work();
            work.clock = work.clock.max(cause.time.0 + 1);
            if work.open {
                work.cause.time = LamportTime(work.clock);
            }
        }
        if by_store {
            self.depends_on_store();
        }
    }

    /// From now on, what this vat knows depends on all that its store has written so far.
    pub(crate) fn depends_on_store(&self) {
        if let (Some(persistence), Some(saving)) = (self.vat().persistence(), &mut self.work().saving) {
            saving.ticket = Some(persistence.claim.storage().durability().last());
        }
    }

    /// What the churn has to write, if anything (guarantees G4, G5).
    pub(crate) fn next_batch(&self, cx: H::Cx<'_>) -> Option<Batch> {
        let persistence = self.vat().persistence()?;
        self.forget_dropped(cx, persistence);
        let by_hand = persistence.by_hand.is_set();
        let mut work = self.work();
        let work = &mut **work;
        work.ending = true;
        let saving = work.saving.as_mut();
        saving.and_then(|saving| saving.batch(&persistence.claim, work.next_slot, by_hand, &work.done))
    }

    /// Appends the churn's batch to the store's log.
    pub(crate) fn commit(&self, cx: H::Cx<'_>, batch: Option<Batch>) -> Result<(), Arc<StoreError>> {
        let Some(persistence) = self.vat().persistence() else { return Ok(()) };
        persistence.wrote.store(batch.is_some(), Ordering::Relaxed);
        let Some(batch) = batch else { return Ok(()) };
        let durability = persistence.claim.storage().durability();
        if let Some(error) = durability.failure() {
            return Err(error);
        }
        let next_slot = self.work().next_slot;
        let claim = &persistence.claim;
        let written = H::detached(cx, || {
            let began = Instant::now();
            let written = claim.write(batch, Purpose::Churn);
            claim.storage().note_write(began.elapsed());
            written
        });
        match written {
            Ok(()) => {
                persistence.claim.gave_out(next_slot);
                let ticket = durability.wrote();
                if let Some(saving) = &mut self.work().saving {
                    saving.ticket = Some(ticket);
                }
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                durability.fail(error.clone());
                Err(error)
            }
        }
    }
}
