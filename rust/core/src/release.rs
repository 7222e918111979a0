//! Output: what a churn has made goes to other vats and to the world outside.

use std::sync::Arc;

use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::mailbox::Posted;
use crate::promise::{Outcome, Progress, Reaction, Seen, Waiter};
use crate::error::KernelError;
use crate::vat::Vat;

/// What a churn has for vats and waiters who may not see it yet.
pub(crate) struct Outputs<H: Host> {
    pub(crate) messages: Vec<(Arc<Vat<H>>, Job<H>)>,
    pub(crate) promises: Vec<H::Promise>,
}

impl<H: Host> Outputs<H> {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.promises.is_empty()
    }

    /// Lets it go: all that it depends on is durable.
    pub(crate) fn emit(self, cx: H::Cx<'_>) {
        for (vat, job) in self.messages {
            post(cx, &vat, job);
        }
        for promise in self.promises {
            release::<H>(cx, promise, Seen::ByAll);
        }
    }

    /// Takes it back: what it depends on is lost.
    pub(crate) fn refuse(self, cx: H::Cx<'_>, why: &KernelError) {
        for (vat, job) in self.messages {
            job.refuse(cx, &vat, why.clone());
        }
        for promise in self.promises {
            let broken = Outcome::Broken(H::error(cx, why.clone()));
            let old = {
                let mut state = H::promise_cell(&promise).state();
                std::mem::replace(&mut state.progress, Progress::Settled(broken, Seen::ByAll))
            };
            drop(old);
            release::<H>(cx, promise, Seen::ByAll);
        }
    }
}

/// Hands a job to a vat, and sees to it that somebody runs it.
pub(crate) fn post<H: Host>(cx: H::Cx<'_>, vat: &Arc<Vat<H>>, job: Job<H>) {
    match vat.mailbox().post(job) {
        Ok(Posted::Schedule) => vat.schedule(),
        Ok(Posted::Accepted) => {}
        Err(job) => job.refuse(cx, vat, vat.closed_error()),
    }
}

/// Lets more of the world see a settled promise.
pub(crate) fn release<H: Host>(cx: H::Cx<'_>, promise: H::Promise, seen: Seen) {
    let ready: Vec<(Waiter<H>, Outcome<H>)> = {
        let mut state = H::promise_cell(&promise).state();
        let state = &mut *state;
        let Progress::Settled(outcome, before) = &mut state.progress else {
            return;
        };
        *before = seen;
        let waiters = std::mem::take(&mut state.waiters);
        let mut ready = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            let may_see = match (&waiter, seen) {
                (_, Seen::ByAll) => true,
                (Waiter::Vat(vat, _), Seen::ByStore(store)) => vat.store_id() == Some(store),
                _ => false,
            };
            if may_see {
                ready.push((waiter, outcome.share(cx)));
            } else {
                state.waiters.push(waiter);
            }
        }
        ready
    };
    for (waiter, outcome) in ready {
        tell_waiter(cx, waiter, outcome);
    }
}

/// Hands an outcome to one who waited for it, from outside the waiter's vat.
pub(crate) fn tell_waiter<H: Host>(cx: H::Cx<'_>, waiter: Waiter<H>, outcome: Outcome<H>) {
    match waiter {
        Waiter::Vat(vat, reaction) => {
            let job = Job { task: Task::React { reaction, outcome }, cause: Cause::default() };
            post(cx, &vat, job);
        }
        Waiter::Chain(promise) => settle_outside(cx, promise, outcome, true),
        Waiter::Outside(waker) => H::wake(cx, waker, outcome),
    }
}

/// Settles a promise outside all churns; everybody may see it. The first settlement wins (BEHAVIOURS
/// ASY-10). `chained`: on behalf of the promise that this one waits for.
pub fn settle_outside<H: Host>(cx: H::Cx<'_>, promise: H::Promise, outcome: Outcome<H>, chained: bool) {
    let outcome = match next_in_chain(cx, &promise, outcome) {
        Ok(outcome) => outcome,
        Err(next) => {
            if start_chain::<H>(cx, &promise, &next) {
                wait_outside::<H>(cx, &next, Waiter::Chain(promise));
            }
            return;
        }
    };
    if settle_cell::<H>(&promise, outcome, Seen::ByAll, chained) {
        release::<H>(cx, promise, Seen::ByAll);
    }
}

/// Waits for a promise outside all vats.
pub fn wait_outside<H: Host>(cx: H::Cx<'_>, promise: &H::Promise, waiter: Waiter<H>) {
    if let Some((waiter, outcome)) = H::promise_cell(promise).wait(cx, None, waiter) {
        tell_waiter(cx, waiter, outcome);
    }
}

/// The outcome, or the promise that must be waited for first. A promise that would wait for itself gets
/// broken instead (BEHAVIOURS ASY-16, LIM-23).
pub(crate) fn next_in_chain<H: Host>(
    cx: H::Cx<'_>,
    promise: &H::Promise,
    outcome: Outcome<H>,
) -> Result<Outcome<H>, H::Promise> {
    let Outcome::Fulfilled(value) = &outcome else {
        return Ok(outcome);
    };
    let Some(next) = H::as_promise(cx, value) else {
        return Ok(outcome);
    };
    let start: *const _ = H::promise_cell(promise);
    let mut here = H::clone_promise(cx, &next);
    loop {
        if std::ptr::eq(start, H::promise_cell(&here)) {
            return Ok(Outcome::Broken(H::error(cx, KernelError::PromiseCycle)));
        }
        let further = match &H::promise_cell(&here).state().progress {
            Progress::Chained(further) => Some(H::clone_promise(cx, further)),
            _ => None,
        };
        match further {
            Some(further) => here = further,
            None => return Err(next),
        }
    }
}

/// Marks a promise as waiting for another; false if it was settled or chained before.
pub(crate) fn start_chain<H: Host>(cx: H::Cx<'_>, promise: &H::Promise, next: &H::Promise) -> bool {
    let next = H::clone_promise(cx, next);
    let mut state = H::promise_cell(promise).state();
    if matches!(state.progress, Progress::Pending) {
        state.progress = Progress::Chained(next);
        return true;
    }
    drop(state);
    drop(next);
    false
}

/// Writes the outcome into a promise; false if it had one, or waits for another promise.
pub(crate) fn settle_cell<H: Host>(promise: &H::Promise, outcome: Outcome<H>, seen: Seen, chained: bool) -> bool {
    let mut state = H::promise_cell(promise).state();
    let open = match state.progress {
        Progress::Pending => true,
        Progress::Chained(_) => chained,
        Progress::Settled(..) => false,
    };
    let dropped = if open {
        Ok(std::mem::replace(&mut state.progress, Progress::Settled(outcome, seen)))
    } else {
        Err(outcome)
    };
    drop(state);
    drop(dropped);
    open
}

/// The actor that an outcome stands for.
pub(crate) fn receiver<H: Host>(cx: H::Cx<'_>, outcome: Outcome<H>) -> Result<H::Actor, H::Error> {
    match outcome {
        Outcome::Broken(error) => Err(error),
        Outcome::Fulfilled(value) => H::as_actor(cx, &value)
            .ok_or_else(|| H::error(cx, KernelError::NotAnActor { value: H::describe_value(cx, &value) })),
    }
}

impl<H: Host> Reaction<H> {
    /// Whether it only passes a message on.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self, Self::Forward { .. })
    }
}
