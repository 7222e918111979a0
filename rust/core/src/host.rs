//! What the kernel asks of the language it serves.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::ActorCell;
use crate::churn::Churn;
use crate::error::KernelError;
use crate::ids::Slot;
use crate::pace::{Kind, Usage};
use crate::promise::{Outcome, PromiseCell};
use crate::record::{Portrait, Record, Shape};
use crate::recording::Place;
use crate::residency::MaySleep;
use crate::trail::Trail;
use crate::upstream::Goal;
use crate::vat::Vat;

/// A language that actors are written in.
///
/// The kernel never looks into the values named here. It calls these functions with no lock held and no
/// cell borrowed, and drops the host's values only then too, since a host may run any code when a value
/// is dropped.
pub trait Host: Sized + 'static {
    /// Proof that this thread may touch the host's values (the interpreter is attached).
    type Cx<'a>: Copy;
    /// A strong reference to an actor.
    type Actor: Send + Sync;
    /// A reference that does not keep the actor alive.
    type WeakActor: Send + Sync;
    /// What an actor does with its next message.
    type Behavior: Send;
    /// A method name and arguments.
    type Message: Send;
    /// The name of a method. Another reference to it costs no more than one to a value.
    type Name: Send;
    /// An answer.
    type Value: Send;
    /// A raised error.
    type Error: Send;
    /// A promise.
    type Promise: Send + Sync;
    /// A reference to a promise that does not keep it in memory.
    type WeakPromise: Send + Sync;
    /// A handler of a settled promise.
    type Function: Send;
    /// A listener for the partial updates of a promise: called for each of them.
    type Partial: Send;
    /// Code that waits for a promise in the middle of its work.
    type Suspended: Send;
    /// What keeps a promise from being taken for abandoned, until it is settled or this is dropped.
    type Right: Send;
    /// What an actor's state was before it was changed in place.
    type Saved: Send;
    /// Somebody outside all vats who waits for a promise.
    type Waker: Send;
    /// An event loop that runs vats.
    type Loop: Send + Sync;
    /// The map from labels to constructors.
    type Env: Send + Sync;
    /// A portrait for this process only: it holds references and promises themselves.
    type Likeness: Send + Sync;

    /// The kernel's part of an actor.
    fn actor_cell(actor: &Self::Actor) -> &ActorCell<Self>;
    /// The kernel's part of a promise.
    fn promise_cell(promise: &Self::Promise) -> &PromiseCell<Self>;

    /// Another strong reference.
    fn clone_actor(cx: Self::Cx<'_>, actor: &Self::Actor) -> Self::Actor;
    /// Lets a strong reference go. A host may do that faster than by dropping it.
    fn drop_actor(cx: Self::Cx<'_>, actor: Self::Actor) {
        let _ = cx;
        drop(actor);
    }
    /// The same behavior again.
    fn clone_behavior(cx: Self::Cx<'_>, behavior: &Self::Behavior) -> Self::Behavior;
    /// As [`Host::drop_actor`].
    fn drop_behavior(cx: Self::Cx<'_>, behavior: Self::Behavior) {
        let _ = cx;
        drop(behavior);
    }
    /// The same value again.
    fn clone_value(cx: Self::Cx<'_>, value: &Self::Value) -> Self::Value;
    /// The same error again.
    fn clone_error(cx: Self::Cx<'_>, error: &Self::Error) -> Self::Error;
    /// The same promise again.
    fn clone_promise(cx: Self::Cx<'_>, promise: &Self::Promise) -> Self::Promise;
    /// The same listener again.
    fn clone_partial(cx: Self::Cx<'_>, listener: &Self::Partial) -> Self::Partial;
    /// A weak reference.
    fn downgrade(cx: Self::Cx<'_>, actor: &Self::Actor) -> Result<Self::WeakActor, Self::Error>;
    /// The actor, if it is alive.
    fn upgrade(cx: Self::Cx<'_>, weak: &Self::WeakActor) -> Option<Self::Actor>;
    /// A promise around a cell.
    fn new_promise(cx: Self::Cx<'_>, cell: PromiseCell<Self>) -> Result<Self::Promise, Self::Error>;
    /// A weak reference to a promise.
    fn downgrade_promise(cx: Self::Cx<'_>, promise: &Self::Promise)
    -> Result<Self::WeakPromise, Self::Error>;
    /// The promise, if it is alive.
    fn upgrade_promise(cx: Self::Cx<'_>, weak: &Self::WeakPromise) -> Option<Self::Promise>;
    /// Whether two behaviors are one object.
    fn same_behavior(a: &Self::Behavior, b: &Self::Behavior) -> bool;

    /// The promise that a value is, if it is one.
    fn as_promise(cx: Self::Cx<'_>, value: &Self::Value) -> Option<Self::Promise>;
    /// An outcome that is no other promise, as it is to stand in a promise.
    fn settled_with(_cx: Self::Cx<'_>, _promise: &Self::Promise, outcome: Outcome<Self>) -> Outcome<Self> {
        outcome
    }
    /// The actor that a value is a reference to, if it is one.
    fn as_actor(cx: Self::Cx<'_>, value: &Self::Value) -> Option<Self::Actor>;
    /// A reference to an actor, as a value.
    fn reference(cx: Self::Cx<'_>, actor: Self::Actor) -> Self::Value;
    /// A value in a few words, for messages.
    fn describe_value(cx: Self::Cx<'_>, value: &Self::Value) -> String;
    /// A promise in a few words, for messages.
    fn describe_promise(cx: Self::Cx<'_>, promise: &Self::Promise) -> String;
    /// An actor in a few words, for messages.
    fn describe_actor(cx: Self::Cx<'_>, actor: &Self::Actor) -> String;
    /// The method that a message asks for.
    fn method(cx: Self::Cx<'_>, message: &Self::Message) -> Option<Self::Name>;
    /// The same name again.
    fn clone_name(cx: Self::Cx<'_>, name: &Self::Name) -> Self::Name;
    /// As [`Host::drop_actor`].
    fn drop_name(cx: Self::Cx<'_>, name: Self::Name) {
        let _ = cx;
        drop(name);
    }
    /// An error as a value, for the log.
    fn error_value(cx: Self::Cx<'_>, error: &Self::Error) -> Self::Value;
    /// Notes in an error where it left a turn, unless it has such a note.
    fn note(cx: Self::Cx<'_>, error: &Self::Error, place: &Place<'_, Self>);

    /// The actor handles a message. A change of its behavior is made by [`Churn::change`].
    fn deliver(
        cx: Self::Cx<'_>,
        churn: &Rc<Churn<Self>>,
        actor: &Self::Actor,
        message: &Self::Message,
    ) -> Result<Self::Value, Self::Error>;
    /// Runs the handler of a settled promise, which may be taken if it can't be run again.
    fn react(
        cx: Self::Cx<'_>,
        churn: &Rc<Churn<Self>>,
        handler: &mut Option<Self::Function>,
        outcome: Option<Outcome<Self>>,
    ) -> Result<Self::Value, Self::Error>;
    /// Tells a listener of a partial update. What it gives is dropped.
    fn update(
        cx: Self::Cx<'_>,
        churn: &Rc<Churn<Self>>,
        listener: Self::Partial,
        value: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// Goes on with suspended code; `None` if it has suspended itself again, by [`Churn::suspend`] with the
    /// same `answer`.
    fn resume(
        cx: Self::Cx<'_>,
        churn: &Rc<Churn<Self>>,
        code: Self::Suspended,
        outcome: Outcome<Self>,
        answer: &Self::Promise,
    ) -> Result<Option<Self::Value>, Self::Error>;
    /// Tells somebody outside that a promise has settled. If all he does is to settle another promise, that one and its
    /// outcome are given back, once there is one.
    fn wake(
        cx: Self::Cx<'_>,
        waker: Self::Waker,
        outcome: Outcome<Self>,
    ) -> Option<(Self::Promise, Outcome<Self>)>;
    /// The promise that a waker is there to settle.
    fn goal(waker: &Self::Waker) -> Option<Goal<'_, Self>>;
    /// Where a waker is in memory, or a number of its own: no two that exist have the same. 0 for one that is never
    /// forgotten.
    fn place(waker: &Self::Waker) -> usize;
    /// Whether a handler does nothing but to make a value for its promise.
    fn only_makes_a_value(handler: &Self::Function) -> bool;
    /// How many references to a promise there are.
    fn references(promise: &Self::Promise) -> usize;

    /// Whether an actor's state differs from what it was when this was saved. An error fails the turn.
    fn is_changed(cx: Self::Cx<'_>, saved: &Self::Saved) -> Result<bool, Self::Error>;
    /// Puts an actor's state back.
    fn restore(saved: Self::Saved);
    /// Puts an actor's state back, and gives what it was before that.
    fn exchange(cx: Self::Cx<'_>, saved: Self::Saved) -> Result<Self::Saved, Self::Error>;
    /// The same again.
    fn clone_saved(cx: Self::Cx<'_>, saved: &Self::Saved) -> Self::Saved;
    /// The actor's portrait, or the error that says why it can't be stored.
    fn portrait(
        cx: Self::Cx<'_>,
        env: &Self::Env,
        actor: &Self::Actor,
    ) -> Result<Portrait<Self::Actor, Self::Promise>, Self::Error>;
    /// The field of a record in which the reference with this index stands.
    fn field_of(shape: &Shape, record: &Record, index: usize) -> Option<String>;
    /// An error of a portrait, with the way from a root to its actor.
    fn traced(cx: Self::Cx<'_>, error: Self::Error, actor: &Self::Actor, trail: &Trail) -> Self::Error;
    /// The actor's behavior, made from what is stored, and whether that was upgraded: then its portrait is stored
    /// again. `refs` are the actors that the payload refers to, and `far` stand for those of other vats.
    fn rehydrate(
        cx: Self::Cx<'_>,
        env: &Self::Env,
        actor: &Self::Actor,
        shape: &Shape,
        record: &Record,
        refs: Vec<Self::Actor>,
        far: Vec<Self::Promise>,
    ) -> Result<(Self::Behavior, bool), Self::Error>;
    /// An environment without constructors, for a vat that is closed; `None` if there is none: then it keeps its own.
    fn no_env(cx: Self::Cx<'_>) -> Option<Arc<Self::Env>>;
    /// Whether a behavior may be dropped, to be made again from its record. The caller's is the kernel's only
    /// reference to it.
    fn may_sleep(cx: Self::Cx<'_>, behavior: &Self::Behavior) -> MaySleep;
    /// The actor whose behavior has suspended itself.
    fn suspended_in(code: &Self::Suspended) -> Option<&Self::Actor>;
    /// The actor's likeness, by which it can be made again at once, or the error that says why there is none.
    fn likeness(
        cx: Self::Cx<'_>,
        env: &Self::Env,
        actor: &Self::Actor,
    ) -> Result<Self::Likeness, Self::Error>;
    /// The actor's behavior, made from its likeness, and whether that was upgraded.
    fn remake(
        cx: Self::Cx<'_>,
        env: &Self::Env,
        actor: &Self::Actor,
        likeness: &Self::Likeness,
    ) -> Result<(Self::Behavior, bool), Self::Error>;
    /// A reference to a stored actor that has not been used yet.
    fn ghost(cx: Self::Cx<'_>, vat: &Arc<Vat<Self>>, slot: Slot) -> Result<Self::Actor, Self::Error>;

    /// Sees to it that an event loop calls [`Vat::work`] soon, or [`Vat::forsake`] if it never will. May be called
    /// from any thread.
    fn call_soon(call: &Self::Loop, vat: &Arc<Vat<Self>>);
    /// Whether this thread runs an event loop that can run vats between its own rounds. By default there are none.
    fn runs_a_loop(cx: Self::Cx<'_>) -> bool {
        let _ = cx;
        false
    }

    /// What kind of message this is, if that can be told without running any code: which piece of code will handle it.
    fn kind(cx: Self::Cx<'_>, actor: &Self::Actor, message: &Self::Message) -> Option<Kind> {
        let _ = (cx, actor, message);
        None
    }

    /// Whether the processor has a counter that goes on at one rate for ever, the same for all threads, and that takes no
    /// longer than 100 ns to count. By default it has none.
    fn has_counter() -> bool {
        false
    }

    /// What that counter says: less than half of what fits into the number. Only asked for if there is one.
    fn count() -> u64 {
        0
    }

    /// What this thread has used so far; `None` if the system does not tell.
    fn usage() -> Option<Usage> {
        None
    }

    /// Sees to it that the event loop of this thread calls [`Vat::work_for_loop`] in its next round, or else
    /// [`Vat::hand_over`].
    fn run_soon(vat: &Arc<Vat<Self>>) {
        vat.hand_over();
    }

    /// A kernel error in the host's terms.
    fn error(cx: Self::Cx<'_>, error: KernelError) -> Self::Error;
    /// Reports an error that nobody will get to see (guarantee G10).
    fn report(cx: Self::Cx<'_>, vat: &Vat<Self>, what: &str, error: &Self::Error);

    /// Tells whoever runs the program of something that is no error.
    fn warn(cx: Self::Cx<'_>, what: &str);

    /// Reports that nobody has a store or a vat any more, and that it was not closed. Called where the host's objects
    /// may be dropped.
    fn report_unclosed(cx: Self::Cx<'_>, what: &str) {
        let _ = (cx, what);
    }

    /// The number of this thread, for [`Host::report_slow`]; not 0.
    fn thread_id() -> u64;
    /// Reports a turn that takes long, and where its thread is.
    fn report_slow(cx: Self::Cx<'_>, vat: &Vat<Self>, thread: u64, lasting: Duration);
    /// The churn that this thread runs from now on; gives back the one before.
    fn set_current(churn: Option<Rc<Churn<Self>>>) -> Option<Rc<Churn<Self>>>;
    /// Runs `f`, in which many may be told of what they wait for: those who wait in one event loop can be woken together.
    fn together<R>(cx: Self::Cx<'_>, f: impl FnOnce() -> R) -> R {
        let _ = cx;
        f()
    }

    /// Runs `f` while other threads may use the interpreter. For everything that may wait.
    fn detached<R: Send>(cx: Self::Cx<'_>, f: impl FnOnce() -> R + Send) -> R;
    /// Runs `f` attached, on a thread of the kernel's own. `None` if the interpreter is shutting down.
    fn attached<R>(f: impl for<'a> FnOnce(Self::Cx<'a>) -> R) -> Option<R>;
    /// Called between slices of a long wait, so that the user can interrupt it (guarantee G12).
    fn interrupted(cx: Self::Cx<'_>) -> Result<(), Self::Error>;
    /// An interrupt can't go on from where it came up: it comes up again, in what is run next.
    fn interrupt_again(cx: Self::Cx<'_>, error: Self::Error);
    /// Whether an error is such an interrupt: it has nothing to do with the code that it came up in.
    fn is_interrupt(cx: Self::Cx<'_>, error: &Self::Error) -> bool;
}
