//! Churns: turns run from one message until the vat has nothing left to do.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::awaited::{Awaited, Line};
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::Slot;
use crate::job::{Job, Task};
use crate::log::{Cause, EventKind};
use crate::own_settlements::OwnSettlements;
use crate::partial::Made;
use crate::persistence::Saving;
use crate::promise::{Outcome, Reaction, Seen, Waited, Waiter, wait};
use crate::recording::{Heading, Recorded, Timing};
use crate::release::{Outputs, Settlements, Step, chain, receiver, settle_cell, would_wait_for_itself};
use crate::replacing::Replacing;
use crate::store::Batch;
use crate::stretch::Stretch;
use crate::turn::{Effect, Target, Undo};
use crate::vat::Vat;

/// A vat being run by this thread. It owns the vat's loop, so nobody else can be inside.
///
/// Its cells are borrowed for moments only: never while the host is called or its values are dropped.
pub struct Churn<H: Host> {
    vat: Arc<Vat<H>>,
    work: RefCell<Box<Work<H>>>,
}

/// A vat's loop: what only the one who runs the vat may touch.
pub(crate) struct Work<H: Host> {
    pub(crate) next_slot: u64,
    pub(crate) churn: u64,
    pub(crate) turn: u64,
    /// Counts the moments from which on a change of any actor must be noted anew.
    pub(crate) epoch: u64,
    pub(crate) clock: u64,
    /// What is being done: the turn, or what caused a job that needs none.
    pub(crate) cause: Cause,
    pub(crate) timing: Timing,
    /// Events that are not in the log yet.
    pub(crate) recorded: Recorded<H>,
    /// A turn is open.
    pub(crate) open: bool,
    /// A churn is being written and released: what it made is no longer, or not yet, where it can be seen.
    pub(crate) ending: bool,
    /// It looks back, and will be undone.
    pub(crate) looks_back: bool,
    /// Changes of the open turn, oldest first.
    pub(crate) undo: Vec<Undo<H>>,
    /// Some of them are of actors that may not have changed.
    pub(crate) touched: bool,
    /// Effects of the open turn.
    pub(crate) effects: Vec<Effect<H>>,
    pub(crate) own_settlements: OwnSettlements,
    /// Changes of finished turns, until their batch is written. Persistent vats only.
    pub(crate) done: Vec<Undo<H>>,
    /// Near work of this churn.
    pub(crate) queue: VecDeque<Job<H>>,
    /// Far messages of this churn.
    pub(crate) outbox: Vec<(Arc<Vat<H>>, Job<H>)>,
    /// Updates made in this churn.
    pub(crate) updated: Made<H>,
    /// Promises settled in this churn.
    pub(crate) settled: Vec<H::Promise>,
    /// What churns have made that are over, but are written with the next.
    pub(crate) unwritten: Vec<Outputs<H>>,
    pub(crate) saving: Option<Saving<H>>,
    /// Actors that the open turn gives new code.
    pub(crate) replacing: Option<Replacing<H>>,
    /// The lines in which this churn has come to wait.
    pub(crate) lines: Vec<Line<H>>,
    /// Of the first so many of them, the promises know what they wait for.
    pub(crate) noted: usize,
    /// Promises in whose lines the vat waits since earlier churns.
    pub(crate) awaited: Awaited<H>,
    /// It came up in a job: whoever runs the vat is to get it.
    pub(crate) interrupt: Option<H::Error>,
}

impl<H: Host> Work<H> {
    pub(crate) fn new(next_slot: Slot, saving: Option<Saving<H>>) -> Self {
        Self {
            next_slot: next_slot.0,
            churn: 0,
            turn: 0,
            epoch: 0,
            clock: 0,
            cause: Cause::default(),
            timing: Timing::default(),
            recorded: Recorded::default(),
            open: false,
            ending: false,
            looks_back: false,
            undo: Vec::new(),
            touched: false,
            effects: Vec::new(),
            own_settlements: OwnSettlements::default(),
            done: Vec::new(),
            queue: VecDeque::new(),
            outbox: Vec::new(),
            updated: Vec::new(),
            settled: Vec::new(),
            unwritten: Vec::new(),
            saving,
            replacing: None,
            lines: Vec::new(),
            noted: 0,
            awaited: Awaited::default(),
            interrupt: None,
        }
    }
}

impl<H: Host> Churn<H> {
    pub(crate) fn new(vat: Arc<Vat<H>>, work: Box<Work<H>>) -> Self {
        Self { vat, work: RefCell::new(work) }
    }

    /// The vat that is run.
    pub fn vat(&self) -> &Arc<Vat<H>> {
        &self.vat
    }

    pub(crate) fn work(&self) -> RefMut<'_, Box<Work<H>>> {
        self.work.borrow_mut()
    }

    /// Gives the loop back.
    pub(crate) fn into_work(this: Rc<Self>) -> Box<Work<H>> {
        match Rc::try_unwrap(this) {
            Ok(churn) => churn.work.into_inner(),
            // Somebody keeps the churn beyond its session: what he sees from now on is empty.
            Err(churn) => churn.work.replace(Box::new(Work::new(Slot(0), None))),
        }
    }

    /// Whether `actor` lives in this vat.
    pub fn is_near(&self, actor: &H::Actor) -> bool {
        Arc::ptr_eq(&self.vat, H::actor_cell(actor).vat())
    }

    /// Does one job, then the near work that comes of it, as far as the stretch goes: false if
    /// that was not all.
    pub(crate) fn run(self: &Rc<Self>, cx: H::Cx<'_>, job: Job<H>, stretch: Stretch) -> bool {
        let cuts = if let Task::GoOn { cuts, .. } = &job.task { *cuts } else { 0 };
        self.do_job(cx, job);
        self.run_queue(cx, stretch, cuts)
    }

    pub(crate) fn do_job(self: &Rc<Self>, cx: H::Cx<'_>, job: Job<H>) {
        let Job { task, cause } = job;
        {
            // Later than its cause, whichever vat that was in (VAT-20).
            let mut work = self.work();
            work.clock = work.clock.max(cause.time.0);
            work.cause = cause;
        }
        match task {
            Task::GoOn { jobs, .. } => self.work().queue.extend(jobs),
            Task::Deliver { actor, message, resolver } => {
                let method = H::method(cx, &message);
                let heading =
                    Heading { kind: EventKind::Deliver, cause, actor: Some(&actor), method: method.as_ref() };
                let result = self.turn(cx, heading, || H::deliver(cx, self, &actor, &message));
                match result {
                    Err(error) if H::is_interrupt(cx, &error) => {
                        self.put_back(Task::Deliver { actor, message, resolver }, cause, error);
                    }
                    result => self.answer(cx, resolver, result, &actor),
                }
            }
            Task::React { reaction, outcome } => self.do_reaction(cx, reaction, outcome, cause),
            Task::Update { hearer, value } => self.hear(cx, (hearer, value), cause),
            Task::Hear(promise) => {
                let reactions = H::promise_cell(&promise).take_reactions(cx, &self.vat);
                self.settling(cx, |next| {
                    for (reaction, outcome) in reactions {
                        self.react(cx, reaction, outcome, next);
                    }
                });
            }
            Task::Keep { actor, for_vat, foreign } => {
                if let Some(interrupt) = self.keep_for(cx, &actor, &for_vat, foreign, Heading::react(cause)) {
                    self.put_back(Task::Keep { actor, for_vat, foreign }, cause, interrupt);
                }
            }
            Task::Find { slot, promise, asker: _ } => self.find(cx, slot, promise),
        }
    }

    /// An interrupt came up in a job, which has nothing to do with that: the job is still to be done, after what led
    /// to it has been written, and whoever runs the vat is interrupted.
    pub(crate) fn put_back(&self, task: Task<H>, cause: Cause, error: H::Error) {
        let mut work = self.work();
        work.queue.push_front(Job { task, cause });
        let before = work.interrupt.replace(error);
        drop(work);
        drop(before);
    }

    /// Whoever runs the vat is interrupted, if that is what the error says.
    pub(crate) fn note_interrupt<T>(&self, cx: H::Cx<'_>, result: &Result<T, H::Error>) {
        if let Err(error) = result
            && H::is_interrupt(cx, error)
        {
            let error = H::clone_error(cx, error);
            let before = self.work().interrupt.replace(error);
            drop(before);
        }
    }

    /// The interrupt that came up in a job since the last call.
    pub(crate) fn take_interrupt(&self) -> Result<(), H::Error> {
        match self.work().interrupt.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn answer(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        resolver: Option<H::Promise>,
        result: Result<H::Value, H::Error>,
        actor: &H::Actor,
    ) {
        match (resolver, result) {
            (Some(promise), result) => self.settle_now(cx, promise, result.into(), false),
            (None, Ok(value)) => drop(value),
            (None, Err(error)) => {
                let what = format!(
                    "a message to {} failed, and nobody waits for its answer",
                    H::describe_actor(cx, actor)
                );
                H::report(cx, &self.vat, &what, &error);
            }
        }
    }

    fn do_reaction(self: &Rc<Self>, cx: H::Cx<'_>, reaction: Reaction<H>, outcome: Outcome<H>, cause: Cause) {
        match reaction {
            Reaction::Listen { fulfilled, broken, derived } => {
                let (mut fulfilled, mut broken) = (fulfilled, broken);
                let handler = match outcome {
                    Outcome::Fulfilled(_) => &mut fulfilled,
                    Outcome::Broken(_) => &mut broken,
                };
                if handler.is_none() {
                    return self.settle_now(cx, derived, outcome, false);
                }
                let seen = outcome.share(cx);
                let result = self.turn(cx, Heading::react(cause), || H::react(cx, self, handler, Some(seen)));
                match result {
                    Err(error) if handler.is_some() && H::is_interrupt(cx, &error) => {
                        let reaction = Reaction::Listen { fulfilled, broken, derived };
                        self.put_back(Task::React { reaction, outcome }, cause, error);
                    }
                    result => {
                        self.note_interrupt(cx, &result);
                        self.settle_now(cx, derived, result.into(), false);
                    }
                }
            }
            Reaction::Finally { handler, derived } => {
                let mut handler = Some(handler);
                let result = self.turn(cx, Heading::react(cause), || H::react(cx, self, &mut handler, None));
                let outcome = match (result, handler) {
                    (Err(error), Some(handler)) if H::is_interrupt(cx, &error) => {
                        let reaction = Reaction::Finally { handler, derived };
                        return self.put_back(Task::React { reaction, outcome }, cause, error);
                    }
                    (result, _) => (result, outcome),
                };
                self.note_interrupt(cx, &outcome.0);
                let (result, outcome) = outcome;
                let outcome = match result {
                    Ok(_) => outcome,
                    Err(error) => Outcome::Broken(error),
                };
                self.settle_now(cx, derived, outcome, false);
            }
            Reaction::Resume { code, answer } => {
                if let Some(actor) = H::suspended_in(&code) {
                    H::actor_cell(actor).state().suspended -= 1;
                }
                let result =
                    self.turn(cx, Heading::react(cause), || H::resume(cx, self, code, outcome, &answer));
                // The code has seen the interrupt, and is over.
                self.note_interrupt(cx, &result);
                match result.transpose() {
                    Some(result) => self.settle_now(cx, answer, result.into(), false),
                    None => drop(answer),
                }
            }
            Reaction::Describe(actor) => {
                if let Some(interrupt) = self.describe_again(cx, &actor, Heading::react(cause)) {
                    let reaction = Reaction::Describe(actor);
                    self.put_back(Task::React { reaction, outcome }, cause, interrupt);
                }
            }
            reaction @ (Reaction::Forward { .. }
            | Reaction::Settle(_)
            | Reaction::Chain(_)
            | Reaction::Partial(_)) => {
                self.settling(cx, |next| self.react(cx, reaction, outcome, next));
            }
        }
    }

    /// Does what a successful turn wanted.
    pub(crate) fn carry_out(self: &Rc<Self>, cx: H::Cx<'_>, effect: Effect<H>) {
        match effect {
            Effect::Send { target: Target::Actor(actor), message, resolver } => {
                self.dispatch(cx, actor, message, resolver)
            }
            Effect::Send { target: Target::Promise(promise), message, resolver } => {
                let reaction = Reaction::Forward { message, resolver };
                self.settling(cx, |next| self.wait_for(cx, &promise, reaction, next));
            }
            Effect::Listen { promise, reaction } => {
                if let Reaction::Resume { code, .. } = &reaction
                    && let Some(actor) = H::suspended_in(code)
                {
                    H::actor_cell(actor).state().suspended += 1;
                }
                self.settling(cx, |next| self.wait_for(cx, &promise, reaction, next));
            }
            Effect::Settle { promise, outcome, right } => {
                self.settle_now(cx, promise, outcome, false);
                drop(right);
            }
            Effect::Update { promise, value, right } => {
                self.update_now(cx, promise, value, false);
                drop(right);
            }
            Effect::Keep { address, actor } => self.tell_to_keep(address, actor),
        }
    }

    /// Queues a message for a near actor, or puts it into the outbox for a far one.
    fn dispatch(&self, cx: H::Cx<'_>, actor: H::Actor, message: H::Message, resolver: Option<H::Promise>) {
        let near = self.is_near(&actor);
        let far = (!near).then(|| H::actor_cell(&actor).vat().clone());
        let cause = if near { self.work().cause } else { self.record_send(cx, &actor, &message) };
        let job = Job { task: Task::Deliver { actor, message, resolver }, cause };
        let mut work = self.work();
        match far {
            None => work.queue.push_back(job),
            Some(vat) => work.outbox.push((vat, job)),
        }
    }

    fn forward(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        outcome: Outcome<H>,
        message: H::Message,
        resolver: Option<H::Promise>,
        next: &mut Settlements<H>,
    ) {
        match (receiver(cx, outcome), resolver) {
            (Ok(actor), resolver) => self.dispatch(cx, actor, message, resolver),
            (Err(error), Some(resolver)) => next.push_back((resolver, Outcome::Broken(error), false)),
            (Err(error), None) => {
                H::report(cx, &self.vat, "a message to a promise could not be delivered", &error)
            }
        }
    }

    fn wait_for(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        promise: &H::Promise,
        reaction: Reaction<H>,
        next: &mut Settlements<H>,
    ) {
        if let Reaction::Resume { answer, .. } = &reaction
            && self.note_places(cx)
            && would_wait_for_itself::<H>(cx, answer, promise)
        {
            let ring = Outcome::Broken(H::error(cx, KernelError::PromiseCycle));
            return self.react(cx, reaction, ring, next);
        }
        let waiter = Waiter::Vat(self.vat.clone(), reaction);
        match wait(cx, Some(&self.vat), promise, waiter) {
            Waited::Over(Waiter::Vat(_, reaction), outcome) => {
                self.has_seen(promise);
                self.react(cx, reaction, outcome, next);
            }
            Waited::InLine(news, place) => {
                let source = H::clone_promise(cx, promise);
                self.work().lines.push(Line { source, place });
                if let Some(news) = news {
                    self.depends_on_store();
                    self.catch_up(cx, news);
                }
            }
            Waited::Over(..) => {}
        }
    }

    /// What needs no turn is done at once, the rest is queued.
    fn react(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        reaction: Reaction<H>,
        outcome: Outcome<H>,
        next: &mut Settlements<H>,
    ) {
        match reaction {
            Reaction::Forward { message, resolver } => self.forward(cx, outcome, message, resolver, next),
            Reaction::Settle(waker) => {
                let settled = H::wake(cx, waker, outcome);
                next.extend(settled.map(|(promise, outcome)| (promise, outcome, false)));
            }
            Reaction::Chain(promise) => next.push_back((promise, outcome, true)),
            // It has heard all that it wanted to.
            Reaction::Partial(listener) => drop(listener),
            reaction => {
                let mut work = self.work();
                let cause = work.cause;
                work.queue.push_back(Job { task: Task::React { reaction, outcome }, cause });
            }
        }
    }

    /// Settles a promise; near waiters see it at once, all others when the churn is released.
    pub(crate) fn settle_now(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        promise: H::Promise,
        outcome: Outcome<H>,
        chained: bool,
    ) {
        self.settling(cx, |next| self.settle_one(cx, promise, outcome, chained, next));
    }

    /// Runs `f`, then makes the settlements that came of it.
    fn settling(self: &Rc<Self>, cx: H::Cx<'_>, f: impl FnOnce(&mut Settlements<H>)) {
        let mut next = Settlements::<H>::new();
        f(&mut next);
        while let Some((promise, outcome, chained)) = next.pop_front() {
            self.settle_one(cx, promise, outcome, chained, &mut next);
        }
    }

    fn settle_one(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        promise: H::Promise,
        outcome: Outcome<H>,
        chained: bool,
        next: &mut Settlements<H>,
    ) {
        if let Outcome::Fulfilled(value) = &outcome
            && !self.are_places_noted()
            && H::as_promise(cx, value).is_some()
        {
            self.note_places(cx);
        }
        let outcome = match chain(cx, &promise, outcome) {
            Step::Settle(outcome) => outcome,
            Step::Wait(other) => return self.wait_for(cx, &other, Reaction::Chain(promise), next),
            Step::Nothing => return,
        };
        let cause = self.work().cause;
        if !settle_cell::<H>(&promise, outcome, Seen::ByVat(self.vat.id()), cause, chained) {
            return;
        }
        for (reaction, outcome) in H::promise_cell(&promise).take_reactions(cx, &self.vat) {
            self.react(cx, reaction, outcome, next);
        }
        self.work().settled.push(promise);
    }

    /// Writes what the churn changed, then releases what it made. An error means that the churn was taken
    /// back and that the vat has stopped.
    pub(crate) fn end(self: &Rc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.record_end(cx);
        self.note_lines(cx);
        let batch = self.next_batch(cx);
        self.end_with(cx, batch)
    }

    /// Ends a churn that is written, and released, with the next one: [`Churn::end`] must follow. Both are taken back if
    /// that fails.
    pub(crate) fn end_unwritten(self: &Rc<Self>, cx: H::Cx<'_>) {
        self.record_end(cx);
        self.note_lines(cx);
        let mut work = self.work();
        work.churn += 1;
        let outputs = Outputs::of(&mut work);
        match work.unwritten.last_mut() {
            Some(before) if before.goes_with(&outputs) => before.promises.extend(outputs.promises),
            _ if outputs.is_empty() => {}
            _ => work.unwritten.push(outputs),
        }
    }

    /// Whether the caller waits for the disk, and nothing but that is left to do.
    pub(crate) fn has_only_a_batch(&self) -> bool {
        let Some(persistence) = self.vat.persistence() else {
            return false;
        };
        let syncs = persistence.claim.storage().durability().syncs();
        let work = self.work();
        let silent = work.outbox.is_empty()
            && work.updated.is_empty()
            && work.settled.is_empty()
            && work.unwritten.is_empty();
        syncs && persistence.limits.get().is_none() && silent
    }

    /// As [`Churn::end`], with what is to be written.
    pub(crate) fn end_with(self: &Rc<Self>, cx: H::Cx<'_>, batch: Option<Batch>) -> Result<(), H::Error> {
        let ended = self.commit_and_release(cx, batch);
        self.work().ending = false;
        ended
    }

    fn commit_and_release(self: &Rc<Self>, cx: H::Cx<'_>, batch: Option<Batch>) -> Result<(), H::Error> {
        let committed = self.commit(cx, batch);
        let (before, outputs, done) = {
            let mut work = self.work();
            work.churn += 1;
            let before = std::mem::take(&mut work.unwritten);
            (before, Outputs::of(&mut work), std::mem::take(&mut work.done))
        };
        match committed {
            Ok(()) => {
                drop(done);
                before.into_iter().for_each(|outputs| self.vat.release(cx, outputs));
                if !outputs.is_empty() {
                    self.vat.release(cx, outputs);
                }
                self.let_sleep(cx);
                Ok(())
            }
            Err(error) => {
                Self::take_back(done);
                let why = self.vat.poison(error.clone());
                before.into_iter().for_each(|outputs| outputs.refuse(cx, &why));
                outputs.refuse(cx, &why);
                Err(H::error(cx, KernelError::Store(error)))
            }
        }
    }
}
