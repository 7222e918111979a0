//! Partial updates: what a promise tells of before it settles (ASY-29).
//!
//! Updates are seen as outcomes are: at once in the vat whose churn made them, elsewhere when the churn was
//! written or is durable (guarantee G2). In the moment in which a vat comes to see an update, all who listen there
//! are told. One who comes later is told of the newest that his vat may see. So each is told of an update once, in
//! order, and of none after the settlement.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::promise::{Progress, PromiseCell, PromiseState, Reaction, Seen, Waiter, may_see};
use crate::recording::Heading;
use crate::release::{Settlements, post, settling};
use crate::turn::Effect;
use crate::vat::Vat;

/// What a promise was updated with.
pub struct Update<H: Host> {
    /// Its number among those of the promise.
    number: u64,
    value: H::Value,
    seen: Seen,
    cause: Cause,
}

/// The updates of a promise that not all may see yet, and the newest of the others; oldest first.
pub struct Updates<H: Host> {
    last: u64,
    known: Vec<Update<H>>,
}

/// Who is told of updates.
pub enum Hearer<H: Host> {
    /// A listener, in a turn of its own.
    Listener(H::Partial),
    /// A promise that waits for the one that was updated: it is updated in turn.
    Chained(H::Promise),
}

/// An update for one who waits for the promise.
pub(crate) type News<H> = (Hearer<H>, <H as Host>::Value);

impl<H: Host> Update<H> {
    /// What it tells of.
    pub fn value(&self) -> &H::Value {
        &self.value
    }
}

impl<H: Host> Updates<H> {
    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Update<H>> {
        self.known.iter()
    }

    /// Takes out what nobody will be told of any more: of those that all may see, all but the newest.
    fn outdated(&mut self) -> Vec<Update<H>> {
        let newest = self.known.iter().rev().find(|update| update.seen == Seen::ByAll);
        let newest = newest.map(|update| update.number);
        let (kept, old) = std::mem::take(&mut self.known)
            .into_iter()
            .partition(|update| update.seen != Seen::ByAll || Some(update.number) == newest);
        self.known = kept;
        old
    }
}

impl<H: Host> Waiter<H> {
    /// Who is told of updates, if somebody is.
    fn hearer(&self, cx: H::Cx<'_>) -> Option<Hearer<H>> {
        match self {
            Self::Vat(_, Reaction::Partial(listener)) => {
                Some(Hearer::Listener(H::clone_partial(cx, listener)))
            }
            Self::Vat(_, Reaction::Chain(promise)) | Self::Chain(promise) => {
                Some(Hearer::Chained(H::clone_promise(cx, promise)))
            }
            _ => None,
        }
    }
}

impl<H: Host> PromiseState<H> {
    /// The newest update that `viewer` may see, for one who comes to wait.
    pub(crate) fn newest(
        &self,
        cx: H::Cx<'_>,
        viewer: Option<&Vat<H>>,
        waiter: &Waiter<H>,
    ) -> Option<News<H>> {
        let updates = self.updates.as_ref()?;
        let newest = updates.known.iter().rev().find(|update| may_see(update.seen, viewer))?;
        Some((waiter.hearer(cx)?, H::clone_value(cx, &newest.value)))
    }
}

impl<H: Host> PromiseCell<H> {
    /// Adds an update that nobody may see yet; gives its number, or the value back if it comes too late.
    /// `chained`: on behalf of the promise that this one waits for.
    fn add_update(&self, value: H::Value, cause: Cause, chained: bool) -> Result<u64, H::Value> {
        let mut state = self.state();
        match state.progress {
            Progress::Pending => {}
            Progress::Chained { .. } if chained => {}
            Progress::Chained { .. } | Progress::Settled(..) => return Err(value),
        }
        let updates = state.updates.get_or_insert_with(|| Box::new(Updates { last: 0, known: Vec::new() }));
        updates.last += 1;
        let number = updates.last;
        updates.known.push(Update { number, value, seen: Seen::ByNobody, cause });
        Ok(number)
    }

    /// Lets more of the world see an update; gives those to be told, each with his vat, and the cause.
    #[allow(clippy::type_complexity)]
    fn show_update(
        &self,
        cx: H::Cx<'_>,
        number: u64,
        seen: Seen,
    ) -> (Cause, Vec<(Option<Arc<Vat<H>>>, News<H>)>) {
        let mut told = Vec::new();
        let (cause, old) = {
            let mut state = self.state();
            let state = &mut *state;
            let Some(updates) = &mut state.updates else {
                return (Cause::default(), told);
            };
            let Some(update) = updates.known.iter_mut().find(|update| update.number == number) else {
                return (Cause::default(), told);
            };
            let before = std::mem::replace(&mut update.seen, seen);
            let settled = match &state.progress {
                Progress::Settled(_, seen) => Some(*seen),
                Progress::Pending | Progress::Chained { .. } => None,
            };
            for waiter in &state.waiters {
                let vat = match waiter {
                    Waiter::Vat(vat, _) => Some(vat),
                    _ => None,
                };
                let viewer = vat.map(|vat| &**vat);
                let is_news = may_see(seen, viewer) && !may_see(before, viewer);
                if !is_news || settled.is_some_and(|settled| may_see(settled, viewer)) {
                    continue;
                }
                if let Some(hearer) = waiter.hearer(cx) {
                    told.push((vat.cloned(), (hearer, H::clone_value(cx, &update.value))));
                }
            }
            (update.cause, updates.outdated())
        };
        drop(old);
        (cause, told)
    }

    /// Takes an update back.
    fn drop_update(&self, number: u64) {
        let dropped = {
            let mut state = self.state();
            let Some(updates) = &mut state.updates else { return };
            let index = updates.known.iter().position(|update| update.number == number);
            index.map(|index| updates.known.remove(index))
        };
        drop(dropped);
    }
}

/// The updates that a churn has made: promises with the numbers of the updates.
pub(crate) type Made<H> = Vec<(<H as Host>::Promise, u64)>;

/// Lets more of the world see updates.
pub(crate) fn show<H: Host>(cx: H::Cx<'_>, made: &Made<H>, seen: Seen, next: &mut Settlements<H>) {
    for (promise, number) in made {
        let (cause, told) = H::promise_cell(promise).show_update(cx, *number, seen);
        for (vat, (hearer, value)) in told {
            match (vat, hearer) {
                (Some(vat), hearer) => {
                    post(cx, &vat, Job { task: Task::Update { hearer, value }, cause }, next)
                }
                (None, Hearer::Chained(promise)) => make_outside(cx, promise, value, true, next),
                (None, Hearer::Listener(listener)) => drop(listener),
            }
        }
    }
}

/// Takes updates back: what they depend on is lost.
pub(crate) fn take_back<H: Host>(made: Made<H>) {
    for (promise, number) in made {
        H::promise_cell(&promise).drop_update(number);
    }
}

/// Updates a promise outside all churns; everybody may see it.
pub fn update_outside<H: Host>(cx: H::Cx<'_>, promise: H::Promise, value: H::Value) {
    settling(cx, |next| make_outside::<H>(cx, promise, value, false, next));
}

/// The same, as part of a longer work. `chained`: on behalf of the promise that this one waits for.
pub(crate) fn make_outside<H: Host>(
    cx: H::Cx<'_>,
    promise: H::Promise,
    value: H::Value,
    chained: bool,
    next: &mut Settlements<H>,
) {
    // A chain of promises may be longer than the stack is deep.
    let mut open = VecDeque::from([(promise, value, chained)]);
    while let Some((promise, value, chained)) = open.pop_front() {
        let Ok(number) = H::promise_cell(&promise).add_update(value, Cause::default(), chained) else {
            continue;
        };
        let (cause, told) = H::promise_cell(&promise).show_update(cx, number, Seen::ByAll);
        for (vat, (hearer, value)) in told {
            match (vat, hearer) {
                (Some(vat), hearer) => {
                    post(cx, &vat, Job { task: Task::Update { hearer, value }, cause }, next)
                }
                (None, Hearer::Chained(promise)) => open.push_back((promise, value, true)),
                (None, Hearer::Listener(listener)) => drop(listener),
            }
        }
    }
}

impl<H: Host> Churn<H> {
    /// Updates a promise at the end of this turn, if it succeeds, and if the promise has not settled by then.
    /// `right` is kept until then.
    pub fn update(&self, promise: H::Promise, value: H::Value, right: Option<H::Right>) {
        self.work().effects.push(Effect::Update { promise, value, right });
    }

    /// Updates a promise; near listeners are told in this churn, all others when it is released.
    pub(crate) fn update_now(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        promise: H::Promise,
        value: H::Value,
        chained: bool,
    ) {
        let mut open = VecDeque::from([(promise, value, chained)]);
        while let Some((promise, value, chained)) = open.pop_front() {
            let cause = self.work().cause;
            let Ok(number) = H::promise_cell(&promise).add_update(value, cause, chained) else {
                continue;
            };
            let seen = Seen::ByVat(self.vat().id());
            let (_, told) = H::promise_cell(&promise).show_update(cx, number, seen);
            self.work().updated.push((promise, number));
            for (_, (hearer, value)) in told {
                match hearer {
                    Hearer::Chained(promise) => open.push_back((promise, value, true)),
                    hearer => {
                        self.work().queue.push_back(Job { task: Task::Update { hearer, value }, cause })
                    }
                }
            }
        }
    }

    /// Tells one who has come to wait of the newest update.
    pub(crate) fn catch_up(self: &Rc<Self>, cx: H::Cx<'_>, (hearer, value): News<H>) {
        match hearer {
            Hearer::Chained(promise) => self.update_now(cx, promise, value, true),
            hearer => {
                let mut work = self.work();
                let cause = work.cause;
                work.queue.push_back(Job { task: Task::Update { hearer, value }, cause });
            }
        }
    }

    /// Tells of an update.
    pub(crate) fn hear(self: &Rc<Self>, cx: H::Cx<'_>, (hearer, value): News<H>, cause: Cause) {
        match hearer {
            Hearer::Chained(promise) => self.update_now(cx, promise, value, true),
            Hearer::Listener(listener) => {
                let (same, again) = (H::clone_partial(cx, &listener), H::clone_value(cx, &value));
                let told = self.turn(cx, Heading::react(cause), || H::update(cx, self, listener, value));
                match told {
                    Ok(answer) => drop(answer),
                    Err(error) if H::is_interrupt(cx, &error) => {
                        let hearer = Hearer::Listener(same);
                        self.put_back(Task::Update { hearer, value: again }, cause, error);
                    }
                    Err(error) => {
                        H::report(cx, self.vat(), "a listener for partial updates failed", &error);
                    }
                }
            }
        }
    }
}
