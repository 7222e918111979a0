//! References that are stored: to actors of the same vat, to those of others, and promises.
//!
//! A reference to an actor of another vat is stored as its [`Address`]. Restored it is a promise, one for each address
//! and live vat, which is fulfilled with the actor itself once its vat is there: see [`crate::registry`].

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::actor::Life;
use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::{Address, Slot};
use crate::job::{Job, Task};
use crate::persistence::insert_bounded;
use crate::promise::{Outcome, Progress, PromiseCell, Reaction, Waiter, may_see};
use crate::record::FarReference;
use crate::recording::Heading;
use crate::release::settle_outside;
use crate::turn::{Effect, Undo};
use crate::vat::Vat;

/// How a reference is stored in a vat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// To an actor of this vat.
    Near,
    /// To one of another.
    Far(Address),
}

/// How a reference to `target` is stored in `vat`. One to a vat without a store is an error: nobody could find that
/// actor again (REG-14, guarantee G8). So is one to a vat in a view: its number may be that of another actor in the store.
pub fn reference<H: Host>(
    cx: H::Cx<'_>,
    vat: &Arc<Vat<H>>,
    target: &H::Actor,
) -> Result<Reference, KernelError> {
    let cell = H::actor_cell(target);
    if Arc::ptr_eq(vat, cell.vat()) {
        return Ok(Reference::Near);
    }
    if cell.vat().is_in_view() && cell.vat().store_id() != vat.store_id() {
        return Err(KernelError::OfView { target: H::describe_actor(cx, target) });
    }
    match cell.vat().address_of(cell.slot()) {
        Some(address) => Ok(Reference::Far(address)),
        None => Err(KernelError::WithoutStore { target: H::describe_actor(cx, target) }),
    }
}

/// What is stored of a promise.
pub enum Kept<H: Host> {
    /// The actor of another vat that it stands for, settled or not: so nothing is lost when it is stored again before
    /// that vat is there (POR-33).
    Far(Address),
    /// How it ended (POR-32).
    Settled(Outcome<H>),
    /// That it has not settled yet.
    Unsettled,
}

/// What is stored of a promise in this vat. It counts as no question for the outcome.
pub fn kept<H: Host>(cx: H::Cx<'_>, vat: &Vat<H>, promise: &H::Promise) -> Kept<H> {
    let mut promise = H::clone_promise(cx, promise);
    loop {
        let cell = H::promise_cell(&promise);
        if let Some(address) = cell.address() {
            return Kept::Far(address);
        }
        let next = match &cell.state().progress {
            Progress::Settled(outcome, seen) if may_see(*seen, Some(vat)) => {
                return Kept::Settled(outcome.share(cx));
            }
            Progress::Settled(..) | Progress::Pending => return Kept::Unsettled,
            Progress::Chained { next, .. } => H::clone_promise(cx, next),
        };
        promise = next;
    }
}

/// Settles a promise that comes from a store. What was stored has been heard of.
pub fn settle_restored<H: Host>(cx: H::Cx<'_>, promise: H::Promise, outcome: Outcome<H>) {
    H::promise_cell(&promise).state().heard = true;
    settle_outside::<H>(cx, promise, outcome, false);
}

/// The promises for actors of other vats that a vat has in memory.
pub(crate) struct FarPromises<H: Host> {
    by_address: HashMap<Address, H::WeakPromise>,
    /// As many entries there may be before those of dead promises are looked for.
    room: usize,
}

impl<H: Host> Default for FarPromises<H> {
    fn default() -> Self {
        Self { by_address: HashMap::new(), room: 64 }
    }
}

impl<H: Host> FarPromises<H> {
    /// The addresses that they stand for; some of the promises may be gone.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.by_address.keys().copied()
    }

    /// Drops the entries of promises that are gone.
    pub(crate) fn tidy(&mut self, cx: H::Cx<'_>) -> Vec<H::WeakPromise> {
        let gone = |weak: &H::WeakPromise| H::upgrade_promise(cx, weak).is_none();
        let dead: Vec<Address> =
            self.by_address.iter().filter(|(_, weak)| gone(weak)).map(|(address, _)| *address).collect();
        dead.iter().filter_map(|address| self.by_address.remove(address)).collect()
    }

    fn get(&self, cx: H::Cx<'_>, address: &Address) -> Option<H::Promise> {
        H::upgrade_promise(cx, self.by_address.get(address)?)
    }

    /// Enters a promise; gives back what is to be dropped when nothing is borrowed.
    fn insert(&mut self, cx: H::Cx<'_>, address: Address, promise: H::WeakPromise) -> Vec<H::WeakPromise> {
        let mut dropped: Vec<_> = self.by_address.insert(address, promise).into_iter().collect();
        if self.by_address.len() > self.room {
            dropped.extend(self.tidy(cx));
            self.room = 64.max(2 * self.by_address.len());
        }
        dropped
    }
}

impl<H: Host> Vat<H> {
    /// The address of one of its actors; `None` if this vat has no store, or is not founded yet.
    pub fn address_of(&self, slot: Slot) -> Option<Address> {
        Some(Address { vat: self.permanent_id()?, slot })
    }

    fn is_in_view(&self) -> bool {
        self.persistence().is_some_and(|persistence| persistence.claim.storage().is_view())
    }
}

impl<H: Host> Churn<H> {
    /// The promise for an actor of another vat: the one that is in memory, unless what it became is gone.
    pub(crate) fn far_promise(&self, cx: H::Cx<'_>, address: Address) -> Result<H::Promise, H::Error> {
        let known = self.work().saving.as_ref().and_then(|saving| saving.far.get(cx, &address));
        if let Some(promise) = known
            && !is_stale::<H>(cx, &promise)
        {
            return Ok(promise);
        }
        if let Some(persistence) = self.vat().persistence() {
            persistence.claim.asked(address);
        }
        let promise = H::new_promise(cx, PromiseCell::standing_for(address))?;
        let weak = H::downgrade_promise(cx, &promise)?;
        let dropped = self.work().saving.as_mut().map(|saving| saving.far.insert(cx, address, weak));
        drop(dropped);
        self.vat().ask_for(cx, address, H::clone_promise(cx, &promise));
        Ok(promise)
    }

    /// Looks up an actor for another vat.
    pub(crate) fn find(self: &Rc<Self>, cx: H::Cx<'_>, slot: Slot, promise: H::Promise) {
        let found = self.find_stored(cx, slot);
        let outcome = match found {
            Ok(actor) => Outcome::Fulfilled(H::reference(cx, actor)),
            Err(error) => Outcome::Broken(error),
        };
        self.settle_now(cx, promise, outcome, false);
    }

    fn find_stored(self: &Rc<Self>, cx: H::Cx<'_>, slot: Slot) -> Result<H::Actor, H::Error> {
        let live = {
            let work = self.work();
            work.saving.as_ref().and_then(|saving| H::upgrade(cx, saving.live.get(slot)?))
        };
        if let Some(actor) = live.filter(|actor| H::actor_cell(actor).is_stored()) {
            return Ok(actor);
        }
        let vat = self.vat();
        let not_stored = || KernelError::NotStored { slot: slot.0, vat: vat.title().into_owned() };
        let Some(persistence) = vat.persistence() else {
            return Err(H::error(cx, not_stored()));
        };
        match H::detached(cx, || persistence.claim.has_actor(slot)) {
            Ok(true) => self.stored_actor(cx, slot),
            Ok(false) => Err(H::error(cx, not_stored())),
            Err(error) => Err(H::error(cx, error.into())),
        }
    }

    /// Sees to it that the actors of other vats that a portrait refers to are stored there, once the open turn has
    /// succeeded.
    pub(crate) fn keep_far(&self, far: Vec<FarReference<H::Actor>>) -> Vec<Address> {
        let mut addresses = Vec::with_capacity(far.len());
        for FarReference { address, actor } in far {
            addresses.push(address);
            if let Some(actor) = actor {
                self.work().effects.push(Effect::Keep { address, actor });
            }
        }
        addresses
    }

    /// Tells the vat of an actor to store it, unless that was done before.
    pub(crate) fn tell_to_keep(&self, address: Address, actor: H::Actor) {
        let vat = H::actor_cell(&actor).vat().clone();
        let mut work = self.work();
        let cause = work.cause;
        let fresh = work.saving.as_mut().is_some_and(|saving| insert_bounded(&mut saving.far_kept, address));
        if fresh {
            let foreign = self.vat().store_id() != vat.store_id();
            let task = Task::Keep { actor, for_vat: self.vat().name().to_owned(), foreign };
            work.outbox.push((vat, Job { task, cause }));
            return;
        }
        drop(work);
        drop(actor);
    }

    /// Stores an actor that another vat refers to in its state; one of another store, if it is `foreign`. Gives an
    /// interrupt that came up: then it is still to be done.
    pub(crate) fn keep_for(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        for_vat: &str,
        foreign: bool,
        heading: Heading<'_, H>,
    ) -> Option<H::Error> {
        let kept = match H::actor_cell(actor).is_stored() {
            true => Ok(()),
            false => self.turn(cx, heading, || {
                self.adopt(cx, actor);
                Ok(())
            }),
        };
        if foreign
            && kept.is_ok()
            && let Some(saving) = &mut self.work().saving
        {
            // No walk through this store comes to it.
            saving.export(H::actor_cell(actor).slot(), for_vat);
        }
        if let Err(error) = kept {
            if H::is_interrupt(cx, &error) {
                return Some(error);
            }
            let elsewhere = if foreign { " of another store" } else { "" };
            let what = format!(
                "{} can't be stored, though vat {for_vat}{elsewhere} refers to it in its state: after a restart that reference will \
                 lead nowhere",
                H::describe_actor(cx, actor)
            );
            H::report(cx, self.vat(), &what, &error);
        }
        None
    }

    /// Waits for promises in the state of an actor, to store it again when they have settled (POR-31).
    pub(crate) fn describe_when_settled(&self, cx: H::Cx<'_>, actor: &H::Actor, promises: Vec<H::Promise>) {
        for promise in promises {
            let waits = H::promise_cell(&promise).state().waiters.iter().any(|waiter| match waiter {
                Waiter::Vat(vat, Reaction::Describe(waiting)) => {
                    Arc::ptr_eq(vat, self.vat())
                        && H::actor_cell(waiting).slot() == H::actor_cell(actor).slot()
                }
                _ => false,
            });
            if !waits {
                self.listen(promise, Reaction::Describe(H::clone_actor(cx, actor)));
            }
        }
    }

    /// Stores an actor again: a promise in its state has settled. Gives an interrupt that came up: then it is still to
    /// be done.
    pub(crate) fn describe_again(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        heading: Heading<'_, H>,
    ) -> Option<H::Error> {
        // One that has gone to sleep since, or was undone, does not hold the promise any more.
        if !matches!(H::actor_cell(actor).state().life(), Life::Live(_)) {
            return None;
        }
        let described = self.turn(cx, heading, || {
            self.work().undo.push(Undo::Upgraded { actor: H::clone_actor(cx, actor) });
            Ok(())
        });
        if let Err(error) = described {
            if H::is_interrupt(cx, &error) {
                return Some(error);
            }
            let what = format!(
                "a promise in the state of {} has settled, and how it did can't be stored: after a restart it will be \
                 broken",
                H::describe_actor(cx, actor)
            );
            H::report(cx, self.vat(), &what, &error);
        }
        None
    }
}

/// Whether a promise was fulfilled with an actor of a vat that is closed.
fn is_stale<H: Host>(cx: H::Cx<'_>, promise: &H::Promise) -> bool {
    let value = match &H::promise_cell(promise).state().progress {
        Progress::Settled(Outcome::Fulfilled(value), _) => H::clone_value(cx, value),
        Progress::Settled(Outcome::Broken(_), _) => return true,
        Progress::Pending | Progress::Chained { .. } => return false,
    };
    H::as_actor(cx, &value).is_none_or(|actor| H::actor_cell(&actor).vat().is_closed())
}
