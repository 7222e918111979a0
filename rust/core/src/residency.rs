//! Residency: which stored actors are in memory, which of them are awake, and who of those goes back to sleep.
//!
//! An actor is awake while it has its behavior, and a ghost before that and after. Ghosts are made of the awake by
//! a clock (second chance): the awake stand in a queue; after a churn, while there are too many, the first one goes
//! to the back if it was used since it was last looked at, and to sleep if not. A use costs a mark, and no more.

use std::collections::hash_map::Entry;
use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::actor::Life;
use crate::churn::{Churn, Work};
use crate::host::Host;
use crate::ids::{Slot, SlotMap};
use crate::persistence::Persistence;
use crate::turn::Undo;
use crate::vat::Vat;

/// As many actors that can't sleep are passed over after one churn.
const RESTLESS_AT_A_TIME: usize = 32;
/// The queue may have so many stale entries, whatever its length.
const STALE_ENTRIES: usize = 1024;

/// How much of a vat may be awake after a churn. `None` is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// So many actors.
    pub actors: Option<usize>,
    /// So many bytes, by the size of their records.
    pub bytes: Option<u64>,
}

/// What a host knows of a behavior that the kernel would drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaySleep {
    /// It can't have changed without the kernel knowing.
    Yes,
    /// It may have been changed in place unseen: its portrait must be compared with its record.
    IfUnchanged,
    /// Somebody else holds it, or something in it that can be changed in place.
    No,
}

/// The stored actors that are in memory. A ref to one of them must be the same object (guarantee G6).
pub(crate) struct Residents<H: Host> {
    known: SlotMap<Resident<H>>,
    awake: usize,
    /// Of the records of those that are awake.
    bytes: u64,
    /// There are limits.
    limited: bool,
    /// If so: those that are awake, in the order in which they are looked at. An entry counts only if its ticket is
    /// that of the actor.
    clock: VecDeque<(Slot, NonZeroU32)>,
    tickets: u32,
}

struct Resident<H: Host> {
    weak: H::WeakActor,
    /// The size of its record, if it is awake.
    awake: Option<NonZeroU32>,
    /// Its place in the clock.
    ticket: Option<NonZeroU32>,
}

/// What came of the attempt to put an actor to sleep.
enum Attempt<B> {
    /// It sleeps; this is to be dropped.
    Asleep(B),
    /// It was used lately.
    Used,
    /// It must stay awake for the time being.
    Restless,
    /// It is no candidate.
    NotAwake,
}

impl<H: Host> Residents<H> {
    pub(crate) fn new() -> Self {
        Self {
            known: SlotMap::default(),
            awake: 0,
            bytes: 0,
            limited: false,
            clock: VecDeque::new(),
            tickets: 0,
        }
    }

    /// The reference to an actor, if there is one.
    pub(crate) fn get(&self, slot: Slot) -> Option<&H::WeakActor> {
        self.known.get(&slot).map(|resident| &resident.weak)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &H::WeakActor> {
        self.known.values().map(|resident| &resident.weak)
    }

    /// Their slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.known.keys().copied()
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.known.contains_key(&slot)
    }

    /// Enters an actor, which is a ghost until [`Residents::woke`]. Gives what stood in its place.
    pub(crate) fn insert(&mut self, slot: Slot, weak: H::WeakActor) -> Option<H::WeakActor> {
        match self.known.entry(slot) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().weak, weak)),
            Entry::Vacant(entry) => {
                entry.insert(Resident { weak, awake: None, ticket: None });
                None
            }
        }
    }

    /// Takes an actor out.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<H::WeakActor> {
        self.slept(slot);
        self.known.remove(&slot).map(|resident| resident.weak)
    }

    /// Notes that an actor is awake, and the size of its record.
    fn woke(&mut self, slot: Slot, size: usize) {
        let Some(resident) = self.known.get_mut(&slot) else {
            return;
        };
        let size = u32::try_from(size).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        match resident.awake.replace(size) {
            Some(before) => self.bytes -= u64::from(before.get()),
            None => self.awake += 1,
        }
        self.bytes += u64::from(size.get());
        if self.limited && resident.ticket.is_none() {
            self.tickets = self.tickets.wrapping_add(1).max(1);
            resident.ticket = NonZeroU32::new(self.tickets);
            self.clock.extend(resident.ticket.map(|ticket| (slot, ticket)));
        }
    }

    /// There are limits from now on.
    fn limit(&mut self) {
        if !std::mem::replace(&mut self.limited, true) {
            let awake = self.known.iter().filter_map(|(slot, resident)| Some((*slot, resident.awake?)));
            let mut awake: Vec<_> = awake.collect();
            awake.sort_unstable();
            awake.into_iter().for_each(|(slot, size)| self.woke(slot, size.get() as usize));
        }
    }

    /// Notes that an actor is a ghost again.
    fn slept(&mut self, slot: Slot) {
        if let Some(resident) = self.known.get_mut(&slot)
            && let Some(size) = resident.awake.take()
        {
            self.awake -= 1;
            self.bytes -= u64::from(size.get());
        }
    }

    fn exceed(&self, limits: Limits) -> bool {
        limits.actors.is_some_and(|most| self.awake > most)
            || limits.bytes.is_some_and(|most| self.bytes > most)
    }

    /// The next of the clock: its slot and its reference.
    fn next(&mut self) -> Option<(Slot, &H::WeakActor)> {
        while let Some((slot, ticket)) = self.clock.pop_front() {
            let counts = self.known.get(&slot).is_some_and(|resident| resident.ticket == Some(ticket));
            if counts && let Some(resident) = self.known.get_mut(&slot) {
                resident.ticket = None;
                if resident.awake.is_some() {
                    return self.known.get(&slot).map(|resident| (slot, &resident.weak));
                }
            }
        }
        None
    }

    /// Puts one that [`Residents::next`] gave to the back.
    fn postpone(&mut self, slot: Slot) {
        if let Some(size) = self.known.get(&slot).and_then(|resident| resident.awake) {
            self.woke(slot, size.get() as usize);
        }
    }

    /// Drops entries of actors that have gone, if there are too many of them.
    fn tidy(&mut self) {
        if self.clock.len() > 2 * self.awake + STALE_ENTRIES {
            let known = &mut self.known;
            self.clock.retain(|(slot, ticket)| match known.get_mut(slot) {
                Some(resident) if resident.ticket == Some(*ticket) => {
                    if resident.awake.is_none() {
                        resident.ticket = None;
                    }
                    resident.awake.is_some()
                }
                _ => false,
            });
        }
    }
}

impl<H: Host> Vat<H> {
    /// Sets how much of a persistent vat may be awake after a churn (SLP-01). Only the first call counts.
    pub fn set_sleep(&self, limits: Limits) {
        if let Some(persistence) = self.persistence() {
            let _ = persistence.limits.set(limits);
        }
    }

    /// How many stored actors were in memory with their behavior, and not as ghosts, after the last churn; `None`
    /// for a vat without a store.
    pub fn awake(&self) -> Option<usize> {
        Some(self.persistence()?.awake.load(Ordering::Relaxed))
    }

    pub(crate) fn note_awake(&self, work: &Work<H>) {
        if let (Some(persistence), Some(saving)) = (self.persistence(), &work.saving) {
            persistence.awake.store(saving.live.awake, Ordering::Relaxed);
        }
    }
}

impl<H: Host> Churn<H> {
    /// Enters an actor whose record will be written into the table of those in memory.
    pub(crate) fn remember(&self, cx: H::Cx<'_>, actor: &H::Actor, size: usize) -> Result<(), H::Error> {
        let slot = H::actor_cell(actor).slot();
        let known = self.work().saving.as_ref().is_some_and(|saving| saving.live.contains(slot));
        if !known {
            let weak = H::downgrade(cx, actor)?;
            let old = self.work().saving.as_mut().and_then(|saving| saving.live.insert(slot, weak));
            drop(old);
        }
        self.woke(slot, size);
        Ok(())
    }

    /// Notes that an actor is awake, and the size of its record.
    pub(crate) fn woke(&self, slot: Slot, size: usize) {
        if let Some(saving) = &mut self.work().saving {
            saving.live.woke(slot, size);
        }
    }

    /// The one reference to a stored actor.
    pub(crate) fn stored_actor(self: &Rc<Self>, cx: H::Cx<'_>, slot: Slot) -> Result<H::Actor, H::Error> {
        let live = {
            let work = self.work();
            work.saving.as_ref().and_then(|saving| H::upgrade(cx, saving.live.get(slot)?))
        };
        if let Some(actor) = live {
            return Ok(actor);
        }
        if let Some(persistence) = self.vat().persistence() {
            persistence.claim.loaded(slot);
        }
        let actor = H::ghost(cx, self.vat(), slot)?;
        let weak = H::downgrade(cx, &actor)?;
        let old = {
            let mut work = self.work();
            work.saving.as_mut().and_then(|saving| {
                // It takes the place of one that died.
                saving.live.slept(slot);
                saving.live.insert(slot, weak)
            })
        };
        drop(old);
        Ok(actor)
    }

    /// Takes dead actors out of the table of those in memory.
    pub(crate) fn forget_dropped(&self, cx: H::Cx<'_>, persistence: &Persistence<H>) {
        let dropped = {
            let mut dropped = persistence.dropped.lock();
            if dropped.is_empty() {
                return;
            }
            std::mem::take(&mut *dropped)
        };
        let mut removed = Vec::with_capacity(dropped.len());
        let mut work = self.work();
        let Some(saving) = &mut work.saving else {
            return;
        };
        for slot in dropped {
            // A new ghost may have taken the place meanwhile.
            let alive = saving.live.get(slot).and_then(|weak| H::upgrade(cx, weak));
            match alive {
                Some(actor) => removed.push((None, Some(actor))),
                None => removed.push((saving.live.remove(slot), None)),
            }
        }
        drop(work);
        drop(removed);
    }

    /// Notes that those actors of a list which were made from their records will be ghosts again.
    pub(crate) fn will_be_ghosts(&self, undo: &[Undo<H>]) {
        let mut work = self.work();
        let Some(saving) = &mut work.saving else {
            return;
        };
        // Those that had a behavior before they got new code have it again.
        let mut replaced = HashSet::new();
        for change in undo {
            match change {
                Undo::Replaced { actor, .. } => {
                    replaced.insert(H::actor_cell(actor).slot());
                }
                Undo::Rehydrated { actor } if !replaced.contains(&H::actor_cell(actor).slot()) => {
                    saving.live.slept(H::actor_cell(actor).slot());
                }
                _ => {}
            }
        }
    }

    /// After a churn: puts actors to sleep that were not used lately, until the limits are kept (SLP-01).
    pub(crate) fn let_sleep(&self, cx: H::Cx<'_>) {
        let Some(persistence) = self.vat().persistence() else {
            return;
        };
        if let Some(limits) = persistence.limits.get() {
            self.keep_limits(cx, *limits);
        }
        self.vat().note_awake(&self.work());
    }

    fn keep_limits(&self, cx: H::Cx<'_>, limits: Limits) {
        // What sleeps is dropped when all is done: the host may run any code then.
        let mut behaviors = Vec::new();
        let mut actors = Vec::new();
        let mut restless = 0;
        if let Some(saving) = &mut self.work().saving {
            saving.live.limit();
        }
        while restless < RESTLESS_AT_A_TIME {
            let next = {
                let mut work = self.work();
                let Some(saving) = &mut work.saving else {
                    break;
                };
                if !saving.live.exceed(limits) {
                    break;
                }
                match saving.live.next() {
                    Some((slot, weak)) => (slot, H::upgrade(cx, weak)),
                    None => break,
                }
            };
            let (slot, actor) = next;
            let Some(actor) = actor else {
                // It died in this churn, and is forgotten with the next one.
                if let Some(saving) = &mut self.work().saving {
                    saving.live.slept(slot);
                }
                continue;
            };
            let attempt = self.try_sleep(cx, &actor);
            actors.push(actor);
            let mut work = self.work();
            let Some(saving) = &mut work.saving else {
                break;
            };
            match attempt {
                Attempt::Asleep(behavior) => {
                    saving.live.slept(slot);
                    behaviors.push(behavior);
                }
                Attempt::Used => saving.live.postpone(slot),
                Attempt::Restless => {
                    restless += 1;
                    saving.live.postpone(slot);
                }
                Attempt::NotAwake => saving.live.slept(slot),
            }
        }
        drop(behaviors);
        drop(actors);
        if let Some(saving) = &mut self.work().saving {
            saving.live.tidy();
        }
    }

    /// Makes a ghost of an actor, if its record is all that it is (SLP-04).
    fn try_sleep(&self, cx: H::Cx<'_>, actor: &H::Actor) -> Attempt<H::Behavior> {
        let cell = H::actor_cell(actor);
        if self.work().saving.as_ref().is_some_and(|saving| saving.is_unsaved(cell.slot())) {
            return Attempt::Restless;
        }
        {
            let mut state = cell.state();
            if std::mem::take(&mut state.used) {
                return Attempt::Used;
            }
            if !state.stored || !matches!(state.life(), Life::Live(_)) {
                return Attempt::NotAwake;
            }
            if state.suspended > 0 || state.restless {
                return Attempt::Restless;
            }
        }
        let Life::Live(behavior) = cell.set_life(Life::Ghost) else {
            return Attempt::NotAwake;
        };
        let asleep = match H::may_sleep(cx, &behavior) {
            MaySleep::Yes => return Attempt::Asleep(behavior),
            MaySleep::No => false,
            MaySleep::IfUnchanged => {
                // A portrait is taken of one that is awake.
                let ghost = cell.set_life(Life::Live(H::clone_behavior(cx, &behavior)));
                drop(ghost);
                self.is_as_stored(cx, actor)
            }
        };
        let back = if asleep { Life::Ghost } else { Life::Live(H::clone_behavior(cx, &behavior)) };
        let before = cell.set_life(back);
        drop(before);
        if asleep { Attempt::Asleep(behavior) } else { Attempt::Restless }
    }

    /// Whether an actor's portrait is what stands in the store. If that has fields of another version of the code,
    /// they can't be compared, and nothing was seen that speaks against it.
    fn is_as_stored(&self, cx: H::Cx<'_>, actor: &H::Actor) -> bool {
        let Some(persistence) = self.vat().persistence() else {
            return false;
        };
        let slot = H::actor_cell(actor).slot();
        let portrait = match H::portrait(cx, &persistence.env(), actor) {
            Ok(portrait) => portrait,
            Err(error) if H::is_interrupt(cx, &error) => {
                H::interrupt_again(cx, error);
                return false;
            }
            Err(_) => return false,
        };
        let Ok(Some(record)) = H::detached(cx, || persistence.claim.read_actor(slot)) else {
            return false;
        };
        let shape = {
            let work = self.work();
            work.saving.as_ref().and_then(|saving| saving.shape(record.shape))
        };
        if shape.is_some_and(|shape| shape != portrait.shape) {
            return true;
        }
        let slots = portrait.refs.iter().map(|target| H::actor_cell(target).slot());
        let far = portrait.far.iter().map(|target| target.address);
        record.payload == portrait.payload && slots.eq(record.slots) && far.eq(record.far)
    }
}
