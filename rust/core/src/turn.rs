//! Turns: changes are made in place, and can be taken back (guarantee G1).

use std::rc::Rc;
use std::sync::Arc;

use crate::actor::{CodeNumber, Life};
use crate::churn::Churn;
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::{Address, LamportTime, Slot};
use crate::log::Cause;
use crate::promise::{Outcome, Progress, Reaction};
use crate::recording::Heading;
use crate::vat::Vat;

/// How to take one change back.
pub(crate) enum Undo<H: Host> {
    /// It became something else.
    Changed { actor: H::Actor, old: H::Behavior },
    /// It became a ghost, to be made again by new code.
    Replaced { actor: H::Actor, old: H::Behavior },
    /// Its state was about to be changed in place.
    Touched { actor: H::Actor, saved: H::Saved },
    /// It was spawned.
    Spawned { actor: H::Actor },
    /// It was made from its record.
    Rehydrated { actor: H::Actor },
    /// Its record will be written anew: it was upgraded, or a promise in it has settled.
    Upgraded { actor: H::Actor },
    /// It will have a record.
    Stored { actor: H::Actor },
    /// The vat got another environment.
    Environment { vat: Arc<Vat<H>>, old: Arc<H::Env> },
}

/// What a turn wants to happen if it succeeds, in the order in which it said so.
pub(crate) enum Effect<H: Host> {
    Send {
        target: Target<H>,
        message: H::Message,
        resolver: Option<H::Promise>,
    },
    Listen {
        promise: H::Promise,
        reaction: Reaction<H>,
    },
    Settle {
        promise: H::Promise,
        outcome: Outcome<H>,
        right: Option<H::Right>,
    },
    Update {
        promise: H::Promise,
        value: H::Value,
        right: Option<H::Right>,
    },
    /// An actor of another vat is to be stored there.
    Keep {
        address: Address,
        actor: H::Actor,
    },
}

/// Where a message goes.
pub enum Target<H: Host> {
    /// To an actor.
    Actor(H::Actor),
    /// To the actor that this promise will stand for.
    Promise(H::Promise),
}

impl<H: Host> Churn<H> {
    /// Runs `body` as one turn: if it fails, or if what it made can't be stored, nothing of it happened.
    pub fn turn<T>(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        heading: Heading<'_, H>,
        body: impl FnOnce() -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        self.begin_turn();
        let result = body();
        self.end_turn(cx, heading, result)
    }

    /// Opens a turn.
    pub fn begin_turn(&self) {
        let mut work = self.work();
        debug_assert!(!work.open, "a turn is open");
        work.open = true;
        work.turn += 1;
        work.epoch += 1;
        work.clock += 1;
        let vat = self.vat();
        let tick = vat.runtime().watch().tick();
        vat.pace().begin(work.turn, tick);
        work.cause = Cause { vat: Some(vat.id()), time: LamportTime(work.clock) };
        if vat.log().is_on() {
            let offset = work.timing.begin::<H>(tick);
            drop(work);
            if let Some((mark, offset)) = offset {
                vat.log().set_offset(mark, offset);
            }
        }
    }

    /// Ends the turn with the result of its body.
    pub fn end_turn<T>(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        heading: Heading<'_, H>,
        result: Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        if is_forked() {
            // The parent ends it.
            return result.and(Err(H::error(cx, KernelError::Forked)));
        }
        let result = result.and_then(|value| {
            self.look_at_touched(cx)?;
            self.seal(cx).map(|()| value)
        });
        self.work().open = false;
        self.vat().pace().end();
        match &result {
            Ok(_) => self.keep(cx, heading),
            Err(error) => {
                self.roll_back();
                self.record_undone(cx, heading, error);
            }
        }
        result
    }

    /// Whether a turn is open.
    pub fn in_turn(&self) -> bool {
        self.work().open
    }

    /// The number of the turn, counted in its vat.
    pub fn turn_number(&self) -> u64 {
        self.work().turn
    }

    fn keep(self: &Rc<Self>, cx: H::Cx<'_>, heading: Heading<'_, H>) {
        if self.vat().log().is_on() {
            self.record_kept(cx, heading);
        }
        let mut work = self.work();
        if work.undo.is_empty() && work.effects.is_empty() {
            return;
        }
        if work.saving.is_some() {
            // Kept until the batch is written: a churn whose write fails is taken back as a whole.
            let work = &mut *work;
            work.done.append(&mut work.undo);
        }
        let mut undo = std::mem::take(&mut work.undo);
        let mut effects = std::mem::take(&mut work.effects);
        drop(work);
        // Dropping an old behavior, or an actor, may run code of the host: nothing is borrowed here.
        undo.clear();
        for effect in effects.drain(..) {
            self.carry_out(cx, effect);
        }
        let mut work = self.work();
        if work.undo.is_empty() && work.effects.is_empty() {
            work.undo = undo;
            work.effects = effects;
        }
    }

    pub(crate) fn roll_back(&self) {
        let mut work = self.work();
        work.touched = false;
        let undo = std::mem::take(&mut work.undo);
        let effects = std::mem::take(&mut work.effects);
        drop(work);
        self.will_be_ghosts(&undo);
        Self::take_back(undo);
        drop(effects);
    }

    /// Takes changes back, the last one first.
    pub(crate) fn take_back(undo: Vec<Undo<H>>) {
        // Dropped when all is as it was: the host may run any code then.
        let mut undone = Vec::with_capacity(undo.len());
        let mut environments = Vec::new();
        for change in undo.into_iter().rev() {
            let (actor, life) = match change {
                Undo::Changed { actor, old } => (actor, Life::Live(old)),
                Undo::Replaced { actor, old } => {
                    H::actor_cell(&actor).state().code.0 -= 1;
                    (actor, Life::Live(old))
                }
                Undo::Touched { actor, saved } => {
                    H::restore(saved);
                    undone.push((None, actor));
                    continue;
                }
                Undo::Upgraded { actor } => {
                    undone.push((None, actor));
                    continue;
                }
                Undo::Spawned { actor } => (actor, Life::Gone),
                Undo::Rehydrated { actor } => (actor, Life::Ghost),
                Undo::Stored { actor } => {
                    H::actor_cell(&actor).set_stored(false);
                    undone.push((None, actor));
                    continue;
                }
                Undo::Environment { vat, old } => {
                    environments.extend(vat.persistence().map(|persistence| persistence.exchange_env(old)));
                    continue;
                }
            };
            undone.push((Some(H::actor_cell(&actor).set_life(life)), actor));
        }
    }

    /// Ends an open turn whose body will never come back.
    pub(crate) fn abandon_turn(&self) {
        let open = {
            let mut work = self.work();
            work.looks_back = false;
            std::mem::take(&mut work.open)
        };
        if open {
            self.vat().pace().end();
            self.roll_back();
        }
    }

    /// A slot for an actor about to be spawned.
    pub fn new_slot(&self) -> Slot {
        let mut work = self.work();
        work.next_slot += 1;
        Slot(work.next_slot - 1)
    }

    /// Notes that an actor was spawned in this turn.
    pub fn spawned(&self, cx: H::Cx<'_>, actor: &H::Actor) {
        let mut work = self.work();
        H::actor_cell(actor).state().noted = work.epoch;
        work.undo.push(Undo::Spawned { actor: H::clone_actor(cx, actor) });
    }

    /// The actor becomes `new`. `seen` is the behavior that was called: if the actor has changed since, in
    /// a call that it made itself, the change is refused (ACT-21).
    ///
    /// Only what the actor was at the start of the turn is kept for undoing: what it was in between is dropped.
    pub fn change(
        &self,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        seen: &H::Behavior,
        new: H::Behavior,
    ) -> Result<(), H::Error> {
        self.change_from(cx, actor, seen, None, new)
    }

    /// As [`Churn::change`], for code that may have waited, and which code of the actor that was.
    pub fn change_late(
        &self,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        seen: &H::Behavior,
        code: CodeNumber,
        new: H::Behavior,
    ) -> Result<(), H::Error> {
        self.change_from(cx, actor, seen, Some(code), new)
    }

    fn change_from(
        &self,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        seen: &H::Behavior,
        code: Option<CodeNumber>,
        new: H::Behavior,
    ) -> Result<(), H::Error> {
        let cell = H::actor_cell(actor);
        let epoch = self.work().epoch;
        let (old, noted) = {
            let mut state = cell.state();
            match state.life() {
                Life::Live(now) if H::same_behavior(now, seen) => {
                    let noted = std::mem::replace(&mut state.noted, epoch) == epoch;
                    (state.set_life(Life::Live(new)), noted)
                }
                _ => {
                    let replaced = code.is_some_and(|code| code != state.code);
                    drop(state);
                    drop(new);
                    let (slot, vat) = (cell.slot().0, cell.vat().name().to_owned());
                    return Err(H::error(
                        cx,
                        match replaced {
                            true => KernelError::LateBecome { slot, vat },
                            false => KernelError::StaleBecome { slot, vat },
                        },
                    ));
                }
            }
        };
        if let (Life::Live(old), false) = (old, noted) {
            let actor = H::clone_actor(cx, actor);
            self.work().undo.push(Undo::Changed { actor, old });
        }
        Ok(())
    }

    /// Which turn this is, and which part of it: what was touched in another one must be noted again.
    pub fn epoch(&self) -> u64 {
        self.work().epoch
    }

    /// Notes that the state of an actor is about to be changed in place, as far as the host can tell, and what
    /// it is now. At the end of the turn it is seen whether it has changed.
    pub fn touch(&self, cx: H::Cx<'_>, actor: &H::Actor, saved: H::Saved) {
        let actor = H::clone_actor(cx, actor);
        let mut work = self.work();
        work.touched = true;
        work.undo.push(Undo::Touched { actor, saved });
    }

    /// Forgets those actors that were touched and have not changed.
    fn look_at_touched(&self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let undo = {
            let mut work = self.work();
            if !std::mem::take(&mut work.touched) {
                return Ok(());
            }
            std::mem::take(&mut work.undo)
        };
        let mut result = Ok(());
        let mut unchanged = Vec::new();
        let mut kept = Vec::with_capacity(undo.len());
        for change in undo {
            let changed = match &change {
                Undo::Touched { saved, .. } if result.is_ok() => H::is_changed(cx, saved),
                _ => Ok(true),
            };
            match changed {
                Ok(false) => unchanged.push(change),
                Ok(true) => kept.push(change),
                Err(error) => {
                    kept.push(change);
                    result = Err(error);
                }
            }
        }
        let mut work = self.work();
        kept.append(&mut work.undo);
        work.undo = kept;
        drop(work);
        drop(unchanged);
        result
    }

    /// Takes the behavior of an actor that was spawned in this turn and is not stored: the actor is gone then.
    pub fn absorb(&self, cx: H::Cx<'_>, actor: &H::Actor) -> Option<H::Behavior> {
        let cell = H::actor_cell(actor);
        let epoch = self.work().epoch;
        let behavior = {
            let state = cell.state();
            match state.life() {
                Life::Live(behavior) if state.noted == epoch && !state.stored => {
                    H::clone_behavior(cx, behavior)
                }
                _ => return None,
            }
        };
        let before = cell.set_life(Life::Gone);
        drop(before);
        Some(behavior)
    }

    /// Runs `body` in the open turn, and takes back all that it changed and wanted.
    pub(crate) fn only_look<T>(&self, body: impl FnOnce() -> T) -> T {
        let (changes, effects) = {
            let mut work = self.work();
            // What was noted before must be noted again.
            work.epoch += 1;
            (work.undo.len(), work.effects.len())
        };
        let result = body();
        let (undo, effects) = {
            let mut work = self.work();
            work.epoch += 1;
            work.own_settlements.forget();
            (work.undo.split_off(changes), work.effects.split_off(effects))
        };
        self.will_be_ghosts(&undo);
        Self::take_back(undo);
        drop(effects);
        result
    }

    /// Runs `body` as if no turn were open: it can neither call actors nor change them.
    pub fn paused<T>(&self, body: impl FnOnce() -> T) -> T {
        let open = std::mem::take(&mut self.work().open);
        let result = body();
        self.work().open = open;
        result
    }

    /// Sends a message at the end of this turn, if it succeeds.
    pub fn send(&self, target: Target<H>, message: H::Message, resolver: Option<H::Promise>) {
        self.work().effects.push(Effect::Send { target, message, resolver });
    }

    /// Waits for a promise from the end of this turn on, if it succeeds.
    pub fn listen(&self, promise: H::Promise, reaction: Reaction<H>) {
        self.work().effects.push(Effect::Listen { promise, reaction });
    }

    /// Goes on with `code` once the promise has settled, in a turn of its own, if this turn succeeds. `answer`
    /// is the promise of what it gives in the end (AWT-01).
    pub fn suspend(&self, promise: H::Promise, code: H::Suspended, answer: H::Promise) {
        self.listen(promise, Reaction::Resume { code, answer });
    }

    /// Settles a promise at the end of this turn, if it succeeds. The first settlement wins. `right` is kept
    /// until then.
    pub fn settle(&self, promise: H::Promise, outcome: Outcome<H>, right: Option<H::Right>) {
        self.work().effects.push(Effect::Settle { promise, outcome, right });
    }

    /// The outcome of a promise as this turn may see it: its own settlements included.
    pub fn outcome(&self, cx: H::Cx<'_>, promise: &H::Promise) -> Option<Outcome<H>> {
        let mut promise = H::clone_promise(cx, promise);
        // A chain that this turn has made is no longer than the turn has effects, unless it is a ring.
        let most = self.work().effects.len();
        for _ in 0..=most {
            let cell = H::promise_cell(&promise);
            if let Some(outcome) = cell.outcome(cx, Some(self.vat())) {
                self.has_seen(&promise);
                return Some(outcome);
            }
            if !matches!(cell.state().progress, Progress::Pending) {
                return None;
            }
            let outcome = self.own_settlement(cx, &promise)?;
            match &outcome {
                Outcome::Fulfilled(value) => match H::as_promise(cx, value) {
                    Some(next) => promise = next,
                    None => return Some(outcome),
                },
                Outcome::Broken(_) => return Some(outcome),
            }
        }
        None
    }
}
