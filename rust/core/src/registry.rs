//! Registries: where vats find each other's actors again (REG-01).
//!
//! A registry knows the open vats by their permanent ids. Each store has one of its own, for the vats that live there;
//! others join the vats of several stores. What a vat asks for is looked up in the other vat, by that vat itself. A
//! request for a vat that is not there waits until it is (REG-05).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::KernelError;
use crate::host::Host;
use crate::ids::{Address, PermanentId, Slot};
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::promise::Outcome;
use crate::release::{Settlements, post, settling};
use crate::vat::Vat;

/// As many vats may be known before those that are gone are looked for.
const ROOM: usize = 64;

/// The open vats, by their permanent ids, and what is asked of those that are not open.
///
/// The lock is held for moments only: no promise is made, settled or dropped under it, and no vat either.
pub struct Registry<H: Host> {
    state: Mutex<State<H>>,
}

struct State<H: Host> {
    vats: HashMap<PermanentId, Entry<H>>,
    /// As many vats there may be before those that are gone are looked for.
    room: usize,
    waiting: HashMap<PermanentId, Vec<Arc<Request<H>>>>,
}

struct Entry<H: Host> {
    vat: Weak<Vat<H>>,
    name: String,
}

/// A promise for an actor of a vat that is not there. It may wait in several registries: the first that can answer
/// takes the promise.
struct Request<H: Host> {
    slot: Slot,
    asker: Weak<Vat<H>>,
    promise: Mutex<Option<H::Promise>>,
}

impl<H: Host> Request<H> {
    /// The name of the vat that asks, if that is open still and was not answered.
    fn asked_by(&self) -> Option<String> {
        let asker = self.asker.upgrade().filter(|asker| !asker.is_closed())?;
        self.promise.lock().is_some().then(|| asker.name().to_owned())
    }
}

/// What a registry waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The vat that is not there.
    pub vat: PermanentId,
    /// Its name, if it was there before, and that is not forgotten.
    pub name: Option<String>,
    /// The actor of it that is asked for.
    pub slot: Slot,
    /// The name of the vat that asks.
    pub asked_by: String,
}

impl<H: Host> Default for Registry<H> {
    fn default() -> Self {
        Self { state: Mutex::new(State { vats: HashMap::new(), room: ROOM, waiting: HashMap::new() }) }
    }
}

impl<H: Host> Registry<H> {
    /// A registry without vats.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The vats that are open, by name.
    pub fn names(&self) -> Vec<String> {
        let vats: Vec<_> = {
            let state = self.state.lock();
            state.vats.values().filter_map(|entry| Some((entry.name.clone(), entry.vat.upgrade()?))).collect()
        };
        let open = vats.into_iter().filter(|(_, vat)| vat.answers());
        let mut names: Vec<_> = open.map(|(name, _)| name).collect();
        names.sort();
        names
    }

    /// What is waited for, in the order of ids and slots.
    pub fn pending(&self) -> Vec<Pending> {
        let all: Vec<_> = {
            let state = self.state.lock();
            let State { vats, waiting, .. } = &*state;
            let name = |id| vats.get(id).map(|entry| entry.name.clone());
            let requests =
                waiting.iter().flat_map(|(id, requests)| requests.iter().map(move |one| (id, one)));
            requests.map(|(id, request)| (*id, name(id), request.clone())).collect()
        };
        let (mut pending, mut gone) = (Vec::new(), Vec::new());
        for (vat, name, request) in all {
            match request.asked_by() {
                Some(asked_by) => pending.push(Pending { vat, name, slot: request.slot, asked_by }),
                None => gone.push(request),
            }
        }
        self.forget(&gone);
        pending.sort_by(|a, b| (a.vat, a.slot, &a.asked_by).cmp(&(b.vat, b.slot, &b.asked_by)));
        pending
    }

    /// Takes requests out. Who calls this holds them, so that none is dropped under the lock.
    fn forget(&self, gone: &[Arc<Request<H>>]) {
        if gone.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        for requests in state.waiting.values_mut() {
            requests.retain(|request| !gone.iter().any(|gone| Arc::ptr_eq(gone, request)));
        }
        state.waiting.retain(|_, requests| !requests.is_empty());
    }

    /// Enters a vat, in place of an earlier one with the same id (REG-11), and passes on what was asked of it.
    fn register(&self, cx: H::Cx<'_>, id: PermanentId, vat: &Arc<Vat<H>>) {
        let entry = Entry { vat: Arc::downgrade(vat), name: vat.name().to_owned() };
        let requests = {
            let mut state = self.state.lock();
            state.vats.insert(id, entry);
            if state.vats.len() > state.room {
                state.tidy();
            }
            state.waiting.remove(&id).unwrap_or_default()
        };
        settling(cx, |next| {
            for request in requests {
                let promise = request.promise.lock().take();
                if let Some(promise) = promise {
                    look_up(cx, vat, request.slot, promise, request.asker.clone(), next);
                }
            }
        });
    }

    /// The vat with this id, if it is open.
    fn find(&self, id: PermanentId) -> Option<Arc<Vat<H>>> {
        let there = self.state.lock().vat(id);
        there.filter(|vat| vat.answers())
    }

    /// Lets a request wait, unless the vat has come meanwhile: then it is given back.
    fn wait_for(&self, id: PermanentId, request: &Arc<Request<H>>) -> Option<Arc<Vat<H>>> {
        let (there, answers) = {
            let mut state = self.state.lock();
            let there = state.vat(id);
            let answers = there.as_ref().is_some_and(|vat| vat.answers());
            if !answers {
                let waiting = state.waiting.entry(id).or_default();
                // Those that another registry has answered hold nothing any more.
                waiting.retain(|other| other.promise.lock().is_some());
                waiting.push(request.clone());
            }
            (there, answers)
        };
        there.filter(|_| answers)
    }

    /// Takes the open requests of a vat.
    fn take_requests_of(&self, vat: &Arc<Vat<H>>) -> Vec<H::Promise> {
        let mut taken = Vec::new();
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            for requests in state.waiting.values_mut() {
                let mine = |request: &Arc<Request<H>>| request.asker.as_ptr() == Arc::as_ptr(vat);
                let (its, others): (Vec<_>, _) = std::mem::take(requests).into_iter().partition(mine);
                *requests = others;
                for request in its {
                    let promise = request.promise.lock().take();
                    taken.extend(promise);
                    gone.push(request);
                }
            }
            state.waiting.retain(|_, requests| !requests.is_empty());
        }
        drop(gone);
        taken
    }
}

impl<H: Host> State<H> {
    /// Forgets the vats that are gone: even to know where one was keeps its place in memory.
    fn tidy(&mut self) {
        let waiting = &self.waiting;
        self.vats.retain(|id, entry| {
            if entry.vat.strong_count() == 0 {
                entry.vat = Weak::new();
            }
            // Who asks what is waited for is told its name.
            entry.vat.strong_count() > 0 || waiting.contains_key(id)
        });
        self.room = ROOM.max(2 * self.vats.len());
    }

    /// The last vat with this id, open or not. To be dropped when the lock is free: it may be the last reference.
    fn vat(&self, id: PermanentId) -> Option<Arc<Vat<H>>> {
        self.vats.get(&id)?.vat.upgrade()
    }
}

/// Asks a vat for one of its actors.
fn look_up<H: Host>(
    cx: H::Cx<'_>,
    vat: &Arc<Vat<H>>,
    slot: Slot,
    promise: H::Promise,
    asker: Weak<Vat<H>>,
    next: &mut Settlements<H>,
) {
    post(cx, vat, Job { task: Task::Find { slot, promise, asker }, cause: Cause::default() }, next);
}

impl<H: Host> Vat<H> {
    /// Whether it can be asked for its actors.
    fn answers(&self) -> bool {
        !self.is_closed() && self.failure().is_none()
    }

    fn registries(&self) -> Vec<&Arc<Registry<H>>> {
        let Some(persistence) = self.persistence() else {
            return Vec::new();
        };
        let own = persistence.claim.storage().registry();
        let given = persistence.registry.get().filter(|given| !Arc::ptr_eq(given, own));
        std::iter::once(own).chain(given).collect()
    }

    /// Looks for vats of other stores here, and lets them find this one (PV-11). Only the first call counts.
    pub fn use_registry(&self, registry: Arc<Registry<H>>) {
        if let Some(persistence) = self.persistence() {
            // A second one would miss what was asked before.
            let _ = persistence.registry.set(registry);
        }
    }

    /// Lets the vats of its store, and those of its registry, find this one. To be called when its roots are there.
    pub fn publish(self: &Arc<Self>, cx: H::Cx<'_>) {
        if let Some(id) = self.permanent_id() {
            self.registries().into_iter().for_each(|registry| registry.register(cx, id, self));
        }
    }

    /// Asks for an actor of another vat; the promise will be settled with it.
    pub(crate) fn ask_for(self: &Arc<Self>, cx: H::Cx<'_>, address: Address, promise: H::Promise) {
        settling(cx, |next| self.ask(cx, address, promise, next));
    }

    fn ask(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        address: Address,
        promise: H::Promise,
        next: &mut Settlements<H>,
    ) {
        let registries = self.registries();
        let asker = Arc::downgrade(self);
        if let Some(vat) = registries.iter().find_map(|registry| registry.find(address.vat)) {
            return look_up(cx, &vat, address.slot, promise, asker, next);
        }
        let promise = Mutex::new(Some(promise));
        let request = Arc::new(Request { slot: address.slot, asker, promise });
        let there = registries.iter().find_map(|registry| registry.wait_for(address.vat, &request));
        let Some(vat) = there else {
            return;
        };
        let promise = request.promise.lock().take();
        if let Some(promise) = promise {
            look_up(cx, &vat, address.slot, promise, request.asker.clone(), next);
        }
    }

    /// A look-up that came too late: the vat is closed. The request waits for the next one with its id.
    pub(crate) fn ask_again(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        slot: Slot,
        promise: H::Promise,
        asker: &Weak<Self>,
        next: &mut Settlements<H>,
    ) {
        let asker = asker.upgrade().filter(|asker| !asker.is_closed());
        match (asker, self.address_of(slot)) {
            (Some(asker), Some(address)) => asker.ask(cx, address, promise, next),
            _ => next.push_back((promise, Outcome::Broken(H::error(cx, self.closed_error())), false)),
        }
    }

    /// Breaks what this vat has asked for and not got: it is closed.
    pub(crate) fn give_up_asking(self: &Arc<Self>, cx: H::Cx<'_>) {
        let registries = self.registries();
        let taken: Vec<_> =
            registries.into_iter().flat_map(|registry| registry.take_requests_of(self)).collect();
        settling::<H>(cx, |next| {
            for promise in taken {
                // It was not wrong to ask.
                H::promise_cell(&promise).state().heard = true;
                let why = KernelError::VatClosed { vat: self.title().into_owned() };
                next.push_back((promise, Outcome::Broken(H::error(cx, why)), false));
            }
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{PermanentId, ROOM, Registry};
    use crate::pool::Runtime;
    use crate::toy::Toy;
    use crate::vat::{Vat, VatOptions};

    #[test]
    fn vats_that_are_gone_are_forgotten() {
        let (registry, runtime) = (Registry::<Toy>::new(), Runtime::new(1));
        let open = Vat::new(&runtime, VatOptions::default());
        registry.register((), PermanentId([255; 16]), &open);
        for number in 0..10 * ROOM as u128 {
            let vat = Vat::new(&runtime, VatOptions::default());
            registry.register((), PermanentId(number.to_be_bytes()), &vat);
        }
        assert!(registry.state.lock().vats.len() <= ROOM);
        assert_eq!(registry.names(), [open.name()]);
    }
}
