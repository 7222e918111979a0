//! Output: what a churn has made goes to other vats and to the world outside.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::churn::Work;
use crate::error::KernelError;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::mailbox::Posted;
use crate::partial::{self, Hearer, Made};
use crate::promise::{self, Outcome, Progress, Reaction, Seen, Waited, Waiter, may_see};
use crate::upstream::{Upstream, closes_a_ring};
use crate::vat::Vat;

/// Settlements still to be made: promise, outcome, and whether on behalf of the promise it waits for. They
/// are made one after the other, since a chain of promises may be longer than the stack is deep.
pub(crate) type Settlements<H> = VecDeque<(<H as Host>::Promise, Outcome<H>, bool)>;

/// What a churn has for vats and waiters who may not see it yet.
pub(crate) struct Outputs<H: Host> {
    pub(crate) messages: Vec<(Arc<Vat<H>>, Job<H>)>,
    pub(crate) updates: Made<H>,
    pub(crate) promises: Vec<H::Promise>,
}

impl<H: Host> Outputs<H> {
    /// Takes what a churn has made.
    pub(crate) fn of(work: &mut Work<H>) -> Self {
        Self {
            messages: std::mem::take(&mut work.outbox),
            updates: std::mem::take(&mut work.updated),
            promises: std::mem::take(&mut work.settled),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.updates.is_empty() && self.promises.is_empty()
    }

    /// Whether it may go out together with what a later churn has made, which must not overtake it.
    pub(crate) fn goes_with(&self, later: &Self) -> bool {
        let only_promises = |outputs: &Self| outputs.messages.is_empty() && outputs.updates.is_empty();
        only_promises(self) && only_promises(later)
    }

    /// Lets it go: all that it depends on is durable.
    pub(crate) fn emit(self, cx: H::Cx<'_>) {
        settling(cx, |next| {
            for (vat, job) in self.messages {
                post(cx, &vat, job, next);
            }
            partial::show::<H>(cx, &self.updates, Seen::ByAll, next);
            for promise in self.promises {
                release(cx, promise, Seen::ByAll, next);
            }
        });
    }

    /// Takes it back: what it depends on is lost.
    pub(crate) fn refuse(self, cx: H::Cx<'_>, why: &KernelError) {
        settling(cx, |next| {
            for (vat, job) in self.messages {
                job.refuse(cx, &vat, why.clone(), next);
            }
            partial::take_back::<H>(self.updates);
            for promise in self.promises {
                let broken = Outcome::Broken(H::error(cx, why.clone()));
                let old = {
                    let mut state = H::promise_cell(&promise).state();
                    let seen = match &state.progress {
                        Progress::Settled(_, seen) => *seen,
                        Progress::Pending | Progress::Chained { .. } => Seen::ByNobody,
                    };
                    std::mem::replace(&mut state.progress, Progress::Settled(broken, seen))
                };
                drop(old);
                release(cx, promise, Seen::ByAll, next);
            }
        });
    }
}

/// Runs `f`, then makes the settlements that came of it, outside all churns.
pub(crate) fn settling<H: Host>(cx: H::Cx<'_>, f: impl FnOnce(&mut Settlements<H>)) {
    let mut next = Settlements::<H>::new();
    f(&mut next);
    while let Some((promise, outcome, chained)) = next.pop_front() {
        settle(cx, promise, outcome, chained, &mut next);
    }
}

/// Hands a job to a vat, and sees to it that somebody runs it.
pub(crate) fn post<H: Host>(cx: H::Cx<'_>, vat: &Arc<Vat<H>>, job: Job<H>, next: &mut Settlements<H>) {
    let way = vat.way_of(cx, &job);
    match vat.mailbox().post_by(job, way) {
        Ok(Posted::Schedule) => vat.schedule(),
        Ok(Posted::Entrust) => vat.entrust(),
        Ok(Posted::Accepted) => {}
        Err(job) => return job.refuse(cx, vat, vat.closed_error(), next),
    }
    if vat.is_stepless() {
        vat.refuse_steps(cx);
    }
}

/// Lets more of the world see a settled promise: waiting messages go first (ASY-28).
///
/// What a vat waits for stays with the promise until the vat comes to the news: what it comes to wait for
/// meanwhile must not overtake that.
pub(crate) fn release<H: Host>(cx: H::Cx<'_>, promise: H::Promise, seen: Seen, next: &mut Settlements<H>) {
    let mut outside: Vec<(Waiter<H>, Outcome<H>)> = Vec::new();
    let mut vats: Vec<Arc<Vat<H>>> = Vec::new();
    let gone;
    let (cause, updates) = {
        let mut state = H::promise_cell(&promise).state();
        let state = &mut *state;
        let before = match &mut state.progress {
            Progress::Settled(_, seen_before) => std::mem::replace(seen_before, seen),
            Progress::Pending | Progress::Chained { .. } => return,
        };
        gone = if may_see::<H>(seen, None) { state.sweep() } else { Vec::new() };
        let waiters = state.take_line();
        let Progress::Settled(outcome, _) = &state.progress else {
            return;
        };
        for waiter in waiters {
            match &waiter {
                Waiter::Vat(vat, _) => {
                    let is_news = may_see(seen, Some(&**vat)) && !may_see(before, Some(&**vat));
                    if is_news && !vats.iter().any(|told| Arc::ptr_eq(told, vat)) {
                        vats.push(vat.clone());
                    }
                    state.waiters.push(waiter);
                }
                _ if may_see::<H>(seen, None) => outside.push((waiter, outcome.share(cx))),
                _ => state.waiters.push(waiter),
            }
        }
        (state.cause, if seen == Seen::ByAll { state.updates.take() } else { None })
    };
    // Nobody is told of them any more.
    drop((updates, gone));
    outside.sort_by_key(|(waiter, _)| !waiter.is_forward());
    for (waiter, outcome) in outside {
        tell_waiter(cx, waiter, outcome, cause, next);
    }
    for vat in vats {
        let task = Task::Hear(H::clone_promise(cx, &promise));
        post(cx, &vat, Job { task, cause }, next);
    }
}

/// Hands an outcome to one who waited for it, from outside the waiter's vat.
fn tell_waiter<H: Host>(
    cx: H::Cx<'_>,
    waiter: Waiter<H>,
    outcome: Outcome<H>,
    cause: Cause,
    next: &mut Settlements<H>,
) {
    match waiter {
        Waiter::Vat(vat, reaction) => {
            post(cx, &vat, Job { task: Task::React { reaction, outcome }, cause }, next);
        }
        Waiter::Forward { message, resolver } => match receiver::<H>(cx, outcome) {
            Ok(actor) => {
                let vat = H::actor_cell(&actor).vat().clone();
                let task = Task::Deliver { actor, message, resolver: Some(resolver) };
                post(cx, &vat, Job { task, cause }, next);
            }
            Err(error) => next.push_back((resolver, Outcome::Broken(error), false)),
        },
        Waiter::Chain(promise) => next.push_back((promise, outcome, true)),
        Waiter::Outside(waker) => {
            // Its promise may be one of many in a chain: it is settled with the others.
            let settled = H::wake(cx, waker, outcome);
            next.extend(settled.map(|(promise, outcome)| (promise, outcome, false)));
        }
    }
}

/// Settles a promise outside all churns; everybody may see it. The first settlement wins
/// (ASY-10). `chained`: on behalf of the promise that this one waits for.
pub fn settle_outside<H: Host>(cx: H::Cx<'_>, promise: H::Promise, outcome: Outcome<H>, chained: bool) {
    settling(cx, |next| settle(cx, promise, outcome, chained, next));
}

fn settle<H: Host>(
    cx: H::Cx<'_>,
    promise: H::Promise,
    outcome: Outcome<H>,
    chained: bool,
    next: &mut Settlements<H>,
) {
    match chain(cx, &promise, outcome) {
        Step::Settle(outcome) => {
            if settle_cell::<H>(&promise, outcome, Seen::ByNobody, Cause::default(), chained) {
                release(cx, promise, Seen::ByAll, next);
            }
        }
        Step::Wait(other) => wait(cx, &other, Waiter::Chain(promise), next),
        Step::Nothing => {}
    }
}

/// Waits for a promise outside all vats.
pub fn wait_outside<H: Host>(cx: H::Cx<'_>, promise: &H::Promise, waiter: Waiter<H>) {
    settling(cx, |next| wait(cx, promise, waiter, next));
}

fn wait<H: Host>(cx: H::Cx<'_>, promise: &H::Promise, waiter: Waiter<H>, next: &mut Settlements<H>) {
    match promise::wait(cx, None, promise, waiter) {
        Waited::Over(waiter, outcome) => {
            let cause = H::promise_cell(promise).state().cause;
            tell_waiter(cx, waiter, outcome, cause, next);
        }
        Waited::InLine(news, place) => {
            if let Some(place) = place {
                place.note(cx, promise);
            }
            match news {
                Some((Hearer::Chained(promise), value)) => {
                    partial::make_outside(cx, promise, value, true, next);
                }
                // Listeners belong to vats.
                news => drop(news),
            }
        }
    }
}

/// A promise that waits for another on behalf of a vat goes on waiting outside all vats.
pub(crate) fn wait_on_outside<H: Host>(cx: H::Cx<'_>, promise: H::Promise, next: &mut Settlements<H>) {
    let other = match &H::promise_cell(&promise).state().progress {
        Progress::Chained { next: other, .. } => Some(H::clone_promise(cx, other)),
        Progress::Pending | Progress::Settled(..) => None,
    };
    if let Some(other) = other {
        wait(cx, &other, Waiter::Chain(promise), next);
    }
}

/// What to do with an outcome for a promise.
pub(crate) enum Step<H: Host> {
    /// Settle it with this.
    Settle(Outcome<H>),
    /// Wait for this promise: it is marked as waiting.
    Wait(H::Promise),
    /// It was settled, or waits for another.
    Nothing,
}

/// Held while a promise is marked as waiting for another, so that two threads can't close a ring together.
static CHAINING: Mutex<()> = Mutex::new(());

/// Marks the promise as waiting, if the outcome is another promise. One that would wait for itself gets
/// broken instead (ASY-16, LIM-23).
pub(crate) fn chain<H: Host>(cx: H::Cx<'_>, promise: &H::Promise, outcome: Outcome<H>) -> Step<H> {
    let other = match &outcome {
        Outcome::Fulfilled(value) => H::as_promise(cx, value),
        Outcome::Broken(_) => None,
    };
    let Some(other) = other else {
        return Step::Settle(H::settled_with(cx, promise, outcome));
    };
    let chaining = CHAINING.lock();
    let (end, mut kept) = end_of_chain::<H>(cx, &other);
    if closes_a_ring::<H>(cx, promise, &end, &mut kept) {
        drop(chaining);
        return Step::Settle(Outcome::Broken(H::error(cx, KernelError::PromiseCycle)));
    }
    let next = H::clone_promise(cx, &other);
    let mut upstream = Upstream::default();
    let waits = {
        let mut state = H::promise_cell(promise).state();
        let open = matches!(state.progress, Progress::Pending);
        if open {
            state.progress = Progress::Chained { next, ahead: end };
            upstream = std::mem::take(&mut state.upstream);
        } else {
            kept.extend([next, end]);
        }
        open
    };
    drop(chaining);
    drop((kept, upstream));
    if waits { Step::Wait(other) } else { Step::Nothing }
}

/// Whether code that comes to wait for a promise would wait for its own answer.
pub(crate) fn would_wait_for_itself<H: Host>(
    cx: H::Cx<'_>,
    answer: &H::Promise,
    promise: &H::Promise,
) -> bool {
    if !std::ptr::eq(H::promise_cell(answer), H::promise_cell(promise)) {
        let state = H::promise_cell(promise).state();
        match &state.progress {
            Progress::Settled(..) => return false,
            Progress::Pending if state.upstream.count() == 0 => return false,
            Progress::Pending | Progress::Chained { .. } => {}
        }
    }
    let chaining = CHAINING.lock();
    let (end, mut kept) = end_of_chain::<H>(cx, promise);
    let ring = closes_a_ring::<H>(cx, answer, &end, &mut kept);
    kept.push(end);
    drop(chaining);
    drop(kept);
    ring
}

/// The promise at the end of the chain that begins with `first`, and what is to be dropped outside the lock.
/// Those on the way learn where the end is: so long chains are not walked again and again.
fn end_of_chain<H: Host>(cx: H::Cx<'_>, first: &H::Promise) -> (H::Promise, Vec<H::Promise>) {
    let mut walked = Vec::new();
    let mut end = H::clone_promise(cx, first);
    loop {
        let further = match &H::promise_cell(&end).state().progress {
            Progress::Chained { ahead, .. } => H::clone_promise(cx, ahead),
            Progress::Pending | Progress::Settled(..) => break,
        };
        walked.push(std::mem::replace(&mut end, further));
    }
    for index in 0..walked.len() {
        let mut last = H::clone_promise(cx, &end);
        if let Progress::Chained { ahead, .. } = &mut H::promise_cell(&walked[index]).state().progress {
            std::mem::swap(ahead, &mut last);
        }
        walked.push(last);
    }
    (end, walked)
}

/// Writes the outcome into a promise; false if it had one, or waits for another promise.
pub(crate) fn settle_cell<H: Host>(
    promise: &H::Promise,
    outcome: Outcome<H>,
    seen: Seen,
    cause: Cause,
    chained: bool,
) -> bool {
    let mut state = H::promise_cell(promise).state();
    let open = match state.progress {
        Progress::Pending => true,
        Progress::Chained { .. } => chained,
        Progress::Settled(..) => false,
    };
    let dropped = if open {
        state.cause = cause;
        let upstream = std::mem::take(&mut state.upstream);
        Ok((std::mem::replace(&mut state.progress, Progress::Settled(outcome, seen)), upstream))
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

impl<H: Host> Waiter<H> {
    fn is_forward(&self) -> bool {
        match self {
            Self::Vat(_, reaction) => reaction.is_forward(),
            Self::Forward { .. } => true,
            Self::Chain(_) | Self::Outside(_) => false,
        }
    }
}

impl<H: Host> Reaction<H> {
    /// Whether it only passes a message on.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self, Self::Forward { .. })
    }
}

/// Sends a message, from outside all vats, to what a promise will turn out to be.
pub fn forward_outside<H: Host>(
    cx: H::Cx<'_>,
    promise: &H::Promise,
    message: H::Message,
    resolver: H::Promise,
) {
    wait_outside::<H>(cx, promise, Waiter::Forward { message, resolver });
}
