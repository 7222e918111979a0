//! Portraits: what a turn changed is described at its end, and written with its churn.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::actor::{ActorCell, Life};
use crate::by_hand::ByHand;
use crate::churn::Churn;
use crate::claim::Claim;
use crate::durability::Ticket;
use crate::error::KernelError;
use crate::history::Purpose;
use crate::host::Host;
use crate::ids::{Address, LamportTime, ShapeId, Slot};
use crate::promise::{Progress, Seen};
use crate::readahead::Ahead;
use crate::record::{Portrait, Record, Shape, VatRecord};
use crate::references::FarPromises;
use crate::registry::Registry;
use crate::residency::{Limits, Residents};
use crate::schema::{self, Kind, STORE_PART};
use crate::store::{Batch, StoreError};
use crate::trail::Tracks;
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
    pub(crate) records: HashMap<Slot, Vec<u8>>,
    /// All shapes by number; those from `shapes_saved` on have not been written.
    shapes: Vec<Arc<Shape>>,
    shapes_saved: usize,
    next_slot_saved: u64,
    /// The vat stands in the store.
    founded: bool,
    /// The vat's record, if it is to be written.
    vat: Option<VatRecord>,
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
    /// Actors of other vats whose vats were told to store them.
    pub(crate) far_kept: HashSet<Address>,
    /// Actors that vats of other stores refer to, with the name of one of these: to be written.
    exported: HashMap<Slot, String>,
    /// Those that were written, as far as it is known.
    exports_known: HashSet<Slot>,
    /// The last batch that what this vat knows depends on: its own, or that of a vat of the same store.
    pub(crate) ticket: Option<Ticket>,
}

impl<H: Host> Saving<H> {
    /// `roots`: those of a vat that stands in the store.
    pub(crate) fn new(shapes: Vec<Arc<Shape>>, next_slot: Slot, roots: Option<Vec<Slot>>) -> Self {
        Self {
            records: HashMap::new(),
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
        if self.exports_known.insert(slot) {
            self.exported.insert(slot, for_vat.to_owned());
        }
    }

    /// What is to be written now, if anything is. `by_hand`: only what goes with new roots, or what was asked for;
    /// and the counter of slots, if the churn spawned.
    fn batch(
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

/// The records of actors, and the actors.
struct Described<H: Host> {
    records: HashMap<Slot, Vec<u8>>,
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
        let mut sealed = HashMap::with_capacity(todo.len());
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
            H::actor_cell(&actor).set_unsettled(!portrait.unsettled.is_empty());
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
        let mut seen = HashSet::new();
        let mut changed = Vec::new();
        let first = std::mem::replace(scanned, work.undo.len());
        for undo in &work.undo[first..] {
            let actor = match undo {
                Undo::Changed { actor, .. } | Undo::Touched { actor, .. } | Undo::Upgraded { actor } => actor,
                // Of those stored since the first look the portrait has been taken.
                Undo::Stored { actor } if first == 0 => actor,
                Undo::Stored { .. }
                | Undo::Spawned { .. }
                | Undo::Rehydrated { .. }
                | Undo::Environment { .. } => continue,
            };
            let cell = H::actor_cell(actor);
            if cell.is_stored() && seen.insert(cell.slot()) {
                changed.push(H::clone_actor(cx, actor));
            }
        }
        changed
    }

    fn no_such_actor(&self, cx: H::Cx<'_>, cell: &ActorCell<H>) -> H::Error {
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
        let gone = matches!(cell.state().life, Life::Gone);
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

    /// The actor's behavior; a ghost is made from its record first (guarantee G7).
    pub fn behavior(self: &Rc<Self>, cx: H::Cx<'_>, actor: &H::Actor) -> Result<H::Behavior, H::Error> {
        let cell = H::actor_cell(actor);
        let gone = {
            let mut state = cell.state();
            state.used = true;
            match &state.life {
                Life::Live(behavior) => return Ok(H::clone_behavior(cx, behavior)),
                Life::Gone => true,
                Life::Ghost => false,
            }
        };
        if gone {
            return Err(self.no_such_actor(cx, cell));
        }
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
        let missing = || KernelError::MissingRecord { slot: slot.0, vat: vat.name().to_owned() };
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) => return Err(H::error(cx, missing())),
            Err(error) => return Err(H::error(cx, error.into())),
        };
        let shape = {
            let work = self.work();
            work.saving.as_ref().and_then(|saving| saving.shape(record.shape))
        };
        let Some(shape) = shape else {
            let key = schema::actor_key(persistence.claim.part(), slot);
            let store = persistence.claim.storage().name();
            let reason = format!("its shape {} is not in the store", record.shape);
            return Err(H::error(cx, schema::corrupt(&store, &key, &reason).into()));
        };
        let refs = record.slots.iter().map(|slot| self.stored_actor(cx, *slot)).collect::<Result<_, _>>()?;
        let far =
            record.far.iter().map(|address| self.far_promise(cx, *address)).collect::<Result<_, _>>()?;
        let env = persistence.env();
        let (behavior, upgraded) = H::rehydrate(cx, &env, actor, &shape, &record, refs, far)?;
        let behavior = self.enliven(cx, actor, behavior, upgraded)?;
        self.woke(slot, record.size());
        Ok(behavior)
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
        let already = {
            let mut state = cell.state();
            match &state.life {
                // A call made meanwhile has made it, and may have changed it since.
                Life::Live(now) => Some((H::clone_behavior(cx, now), life)),
                Life::Ghost | Life::Gone => {
                    state.life = life;
                    state.used = false;
                    None
                }
            }
        };
        if let Some((now, _)) = already {
            return Ok(now);
        }
        let mut work = self.work();
        work.undo.push(Undo::Rehydrated { actor: H::clone_actor(cx, actor) });
        if upgraded {
            work.undo.push(Undo::Upgraded { actor: H::clone_actor(cx, actor) });
        }
        drop(work);
        Ok(behavior)
    }

    /// What the churn has to write, if anything (guarantees G4, G5).
    pub(crate) fn next_batch(&self, cx: H::Cx<'_>) -> Option<Batch> {
        let persistence = self.vat().persistence()?;
        self.forget_dropped(cx, persistence);
        let by_hand = persistence.by_hand.is_set();
        let mut work = self.work();
        let work = &mut **work;
        let saving = work.saving.as_mut();
        saving.and_then(|saving| saving.batch(&persistence.claim, work.next_slot, by_hand, &work.done))
    }

    /// Appends the churn's batch to the store's log.
    pub(crate) fn commit(&self, cx: H::Cx<'_>, batch: Option<Batch>) -> Result<(), Arc<StoreError>> {
        let (Some(persistence), Some(batch)) = (self.vat().persistence(), batch) else {
            return Ok(());
        };
        let durability = persistence.claim.storage().durability();
        if let Some(error) = durability.failure() {
            return Err(error);
        }
        let next_slot = self.work().next_slot;
        let written = H::detached(cx, || persistence.claim.write(batch, Purpose::Churn));
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
