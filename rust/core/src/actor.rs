//! The kernel's part of an actor: where it lives, and its behavior.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::host::Host;
use crate::ids::Slot;
use crate::vat::Vat;

/// An actor's place and state. The host's reference object embeds one and is the state's only owner.
pub struct ActorCell<H: Host> {
    vat: Arc<Vat<H>>,
    slot: Slot,
    /// Changed only by the one who runs the vat; locked because a collector may look from any thread.
    state: Mutex<ActorState<H::Behavior>>,
}

/// What an actor is at the moment. There is one for each actor in memory: it is to be small.
#[derive(Debug)]
pub struct ActorState<B> {
    /// What it does, if it is alive.
    behavior: Option<B>,
    /// It never will be again.
    gone: bool,
    /// It has a record in the store, or in the batch being made.
    pub stored: bool,
    /// It is being made from its record.
    pub(crate) making: bool,
    /// When its state was last noted for undoing: see [`Churn::change`](crate::churn::Churn::change).
    pub(crate) noted: u64,
    /// How often it has got new code behind its back: see [`crate::replacing`].
    pub(crate) code: CodeNumber,
    /// How many pieces of its code wait for a promise: they go on with this behavior.
    pub(crate) suspended: u32,
    /// It has something that would be another thing when it is made again.
    pub(crate) restless: bool,
    /// It was used since the clock last came to it: see [`crate::residency`].
    pub(crate) used: bool,
}

impl<B> ActorState<B> {
    fn new(life: Life<B>, stored: bool) -> Self {
        let gone = matches!(life, Life::Gone);
        Self {
            behavior: life.into_behavior(),
            gone,
            stored,
            making: false,
            noted: 0,
            code: CodeNumber(0),
            suspended: 0,
            restless: false,
            used: false,
        }
    }

    /// How alive it is.
    pub fn life(&self) -> Life<&B> {
        match &self.behavior {
            Some(behavior) => Life::Live(behavior),
            None => self.without_behavior(),
        }
    }

    /// Changes how alive it is, and gives what it was before, to be dropped outside the lock.
    pub fn set_life(&mut self, life: Life<B>) -> Life<B> {
        let before = self.without_behavior();
        self.gone = matches!(life, Life::Gone);
        match std::mem::replace(&mut self.behavior, life.into_behavior()) {
            Some(behavior) => Life::Live(behavior),
            None => before,
        }
    }

    fn without_behavior<T>(&self) -> Life<T> {
        if self.gone { Life::Gone } else { Life::Ghost }
    }
}

/// Tells the code that an actor has now from what it had before its code was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeNumber(pub(crate) u32);

/// How alive an actor is.
#[derive(Debug)]
pub enum Life<B> {
    /// Stored, and not used since the vat was opened or since it was put to sleep.
    Ghost,
    /// In memory.
    Live(B),
    /// The turn that spawned it was undone.
    Gone,
}

impl<B> Life<B> {
    fn into_behavior(self) -> Option<B> {
        match self {
            Self::Live(behavior) => Some(behavior),
            Self::Ghost | Self::Gone => None,
        }
    }
}

impl<H: Host> ActorCell<H> {
    /// An actor just spawned.
    pub fn live(vat: Arc<Vat<H>>, slot: Slot, behavior: H::Behavior) -> Self {
        Self { vat, slot, state: Mutex::new(ActorState::new(Life::Live(behavior), false)) }
    }

    /// A stored actor that is made when it is used (guarantee G7).
    pub fn ghost(vat: Arc<Vat<H>>, slot: Slot) -> Self {
        Self { vat, slot, state: Mutex::new(ActorState::new(Life::Ghost, true)) }
    }

    /// The vat it lives in.
    pub fn vat(&self) -> &Arc<Vat<H>> {
        &self.vat
    }

    /// Its number there.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Its state. Do nothing of the host's under this lock but take another reference.
    pub fn state(&self) -> MutexGuard<'_, ActorState<H::Behavior>> {
        self.state.lock()
    }

    /// Its state, unless it is locked: for the host's garbage collector.
    pub fn try_state(&self) -> Option<MutexGuard<'_, ActorState<H::Behavior>>> {
        self.state.try_lock()
    }

    /// Whether it has a record in the store, or in the batch being made.
    pub fn is_stored(&self) -> bool {
        self.state.lock().stored
    }

    /// Which code it has.
    pub fn code(&self) -> CodeNumber {
        self.state.lock().code
    }

    /// Notes whether it has something that would be another thing when it is made again, such as a promise: it stays
    /// awake as long as it has.
    pub fn set_restless(&self, restless: bool) {
        self.state.lock().restless = restless;
    }

    /// Sets the mark; tells whether it was set before.
    pub(crate) fn set_stored(&self, stored: bool) -> bool {
        std::mem::replace(&mut self.state.lock().stored, stored)
    }

    /// Takes out what it is, at its end.
    pub fn take_life(&mut self) -> Life<H::Behavior> {
        self.state.get_mut().set_life(Life::Gone)
    }

    /// Changes how alive it is, which nothing but the caller undoes; gives back what was before, to be dropped outside
    /// the lock.
    pub fn set_life(&self, life: Life<H::Behavior>) -> Life<H::Behavior> {
        self.state.lock().set_life(life)
    }
}

impl<H: Host> std::fmt::Debug for ActorCell<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "actor {} of vat {}", self.slot, self.vat.name())
    }
}
