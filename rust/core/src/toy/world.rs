//! What an actor may do in a turn, and what may be done to actors from outside.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{
    Actor, Behavior, Continuation, Fault, Handler, Listener, Message, NOTES, Promise, REPORTS, Suspended,
    Toy, ToyPromise, ToyRef, Value, Waker,
};
use crate::actor::ActorCell;
use crate::churn::Churn;
use crate::host::Host;
use crate::promise::{Outcome, Reaction, Waiter};
use crate::vat::Vat;
use crate::{Target, send_outside, settle_outside, update_outside, wait_outside};

/// Longer than any test may take: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The turn that is open.
pub struct Turn<'a> {
    churn: &'a Rc<Churn<Toy>>,
}

impl<'a> Turn<'a> {
    /// The open turn of a churn.
    pub fn new(churn: &'a Rc<Churn<Toy>>) -> Self {
        Self { churn }
    }

    /// The churn that it belongs to.
    pub fn churn(&self) -> &Rc<Churn<Toy>> {
        self.churn
    }

    /// Makes an actor.
    pub fn spawn(&self, behavior: Behavior) -> Actor {
        let cell = ActorCell::live(self.churn.vat().clone(), self.churn.new_slot(), behavior);
        let actor = Arc::new(ToyRef { cell });
        self.churn.spawned((), &actor);
        actor
    }

    /// Calls a near actor.
    pub fn call(&self, actor: &Actor, method: &'static str, value: Value) -> Result<Value, Fault> {
        if !self.churn.is_near(actor) {
            return Err(Fault::Raised(format!("{actor:?} is far")));
        }
        Toy::deliver((), self.churn, actor, &Message { method, value })
    }

    /// Sends a message to an actor or to a promise for one.
    pub fn send(&self, target: impl Into<Target<Toy>>, method: &'static str, value: Value) -> Promise {
        let answer = Promise::default();
        self.churn.send(target.into(), Message { method, value }, Some(answer.clone()));
        answer
    }

    /// Sends a message whose answer nobody waits for.
    pub fn tell(&self, target: impl Into<Target<Toy>>, method: &'static str, value: Value) {
        self.churn.send(target.into(), Message { method, value }, None);
    }

    /// Fulfils a promise.
    pub fn fulfil(&self, promise: &Promise, value: Value) {
        self.churn.settle(promise.clone(), Outcome::Fulfilled(value), None);
    }

    /// Breaks a promise.
    pub fn break_(&self, promise: &Promise, why: &str) {
        self.churn.settle(promise.clone(), Outcome::Broken(Fault::Raised(why.to_owned())), None);
    }

    /// Updates a promise.
    pub fn update(&self, promise: &Promise, value: Value) {
        self.churn.update(promise.clone(), value, None);
    }

    /// Runs a listener for each partial update of the promise.
    pub fn on_update(
        &self,
        promise: &Promise,
        listener: impl Fn(&Turn<'_>, Value) -> Result<Value, Fault> + Send + Sync + 'static,
    ) {
        let listener: Listener = Arc::new(listener);
        self.churn.listen(promise.clone(), Reaction::Partial(listener));
    }

    /// Runs a handler once the promise has settled, in either way.
    pub fn on(
        &self,
        promise: &Promise,
        handler: impl FnOnce(&Turn<'_>, Result<Value, Fault>) -> Result<Value, Fault> + Send + Clone + 'static,
    ) -> Promise {
        let wrap = |handler| -> Handler { settled(handler) };
        let derived = Promise::default();
        let (fulfilled, broken) = (Some(wrap(handler.clone())), Some(wrap(handler)));
        self.churn.listen(promise.clone(), Reaction::Listen { fulfilled, broken, derived: derived.clone() });
        derived
    }

    /// Goes on with `code` once the promise has settled. `answer` is the promise of what it gives in the end.
    pub fn suspend(&self, promise: &Promise, code: Continuation, answer: &Promise) {
        self.churn.suspend(promise.clone(), Suspended { actor: None, go_on: code }, answer.clone());
    }

    /// As [`Turn::suspend`], for code of an actor's behavior.
    pub fn suspend_in(&self, actor: &Actor, promise: &Promise, code: Continuation, answer: &Promise) {
        let code = Suspended { actor: Some(actor.clone()), go_on: code };
        self.churn.suspend(promise.clone(), code, answer.clone());
    }

    /// Runs a handler once the promise has settled, and passes the outcome on.
    pub fn finally(
        &self,
        promise: &Promise,
        handler: impl FnOnce(&Turn<'_>) -> Result<Value, Fault> + Send + 'static,
    ) -> Promise {
        let derived = Promise::default();
        let handler: Handler = Box::new(move |turn, _| handler(turn));
        self.churn.listen(promise.clone(), Reaction::Finally { handler, derived: derived.clone() });
        derived
    }
}

fn settled(
    handler: impl FnOnce(&Turn<'_>, Result<Value, Fault>) -> Result<Value, Fault> + Send + 'static,
) -> Handler {
    Box::new(move |turn, outcome| match outcome {
        Some(Outcome::Fulfilled(value)) => handler(turn, Ok(value)),
        Some(Outcome::Broken(error)) => handler(turn, Err(error)),
        None => Err(Fault::Raised("there was no outcome".to_owned())),
    })
}

impl From<&Actor> for Target<Toy> {
    fn from(actor: &Actor) -> Self {
        Self::Actor(actor.clone())
    }
}

impl From<&Promise> for Target<Toy> {
    fn from(promise: &Promise) -> Self {
        Self::Promise(promise.clone())
    }
}

impl From<Outcome<Toy>> for Result<Value, Fault> {
    fn from(outcome: Outcome<Toy>) -> Self {
        match outcome {
            Outcome::Fulfilled(value) => Ok(value),
            Outcome::Broken(error) => Err(error),
        }
    }
}

/// Makes an actor, as a turn of its own.
pub fn spawn(vat: &Arc<Vat<Toy>>, behavior: Behavior) -> Result<Actor, Fault> {
    vat.run((), |churn| Ok(Turn::new(churn).spawn(behavior)))
}

/// Calls an actor from outside: a turn of its own, durable on return.
pub fn call(actor: &Actor, method: &'static str, value: Value) -> Result<Value, Fault> {
    let vat = Toy::actor_cell(actor).vat();
    vat.run((), |churn| Toy::deliver((), churn, actor, &Message { method, value }))
}

/// Sends a message from outside.
pub fn send(actor: &Actor, method: &'static str, value: Value) -> Promise {
    let answer = Promise::default();
    send_outside::<Toy>((), actor.clone(), Message { method, value }, Some(answer.clone()));
    answer
}

/// Sends a message from outside; nobody waits for the answer.
pub fn tell(actor: &Actor, method: &'static str, value: Value) {
    send_outside::<Toy>((), actor.clone(), Message { method, value }, None);
}

/// Settles a promise from outside.
pub fn fulfil(promise: &Promise, value: Value) {
    settle_outside::<Toy>((), promise.clone(), Outcome::Fulfilled(value), false);
}

/// Updates a promise from outside.
pub fn update(promise: &Promise, value: Value) {
    update_outside::<Toy>((), promise.clone(), value);
}

/// Gives what the promise settles to, when it has, to the receiver.
pub fn wait(promise: &Promise) -> Receiver<Outcome<Toy>> {
    wait_at(promise).1
}

/// As [`wait`], with the place of who waits.
pub fn wait_at(promise: &Promise) -> (usize, Receiver<Outcome<Toy>>) {
    static PLACES: AtomicUsize = AtomicUsize::new(1);
    let (sender, receiver) = channel();
    let place = PLACES.fetch_add(1, Ordering::Relaxed);
    wait_outside::<Toy>((), promise, Waiter::Outside(Waker { sender, place }));
    (place, receiver)
}

/// Waits for a promise.
pub fn result(promise: &Promise) -> Result<Value, Fault> {
    let settled = wait(promise).recv_timeout(PATIENCE);
    settled.map_or_else(|_| Err(Fault::Raised("the promise hangs".to_owned())), Into::into)
}

/// The outcome of a promise as the world outside sees it now.
pub fn outcome(promise: &ToyPromise) -> Option<Result<Value, Fault>> {
    promise.cell.outcome((), None).map(Into::into)
}

/// Takes what was reported of a vat.
pub fn reports(vat: &Vat<Toy>) -> Vec<String> {
    take_of(vat, &mut REPORTS.lock())
}

/// What whoever runs the program was told of.
pub fn warnings() -> Vec<String> {
    REPORTS.lock().iter().filter(|(vat, _)| vat.is_empty()).map(|(_, text)| text.clone()).collect()
}

/// Takes what was noted in the errors of a vat.
pub fn notes(vat: &Vat<Toy>) -> Vec<String> {
    take_of(vat, &mut NOTES.lock())
}

fn take_of(vat: &Vat<Toy>, texts: &mut Vec<(String, String)>) -> Vec<String> {
    let (mine, others): (Vec<_>, _) =
        std::mem::take(texts).into_iter().partition(|(name, _)| name == vat.name());
    *texts = others;
    mine.into_iter().map(|(_, text)| text).collect()
}
