//! A small host in Rust, for tests and benches of the kernel: values are an enum, behaviors are closures or
//! types that know their portrait.

mod actors;
mod world;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

pub use actors::{Env, Sketch, cell, counter, list};
pub use world::{
    Turn, call, fulfil, notes, outcome, reports, result, send, spawn, tell, update, wait, wait_at, warnings,
};

use crate::actor::{ActorCell, Life};
use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::{ShapeId, Slot};
use crate::pace::{Kind, Usage};
use crate::promise::{Outcome, PromiseCell};
use crate::record::{Portrait, Record, Shape};
use crate::recording::Place;
use crate::residency::MaySleep;
use crate::trail::Trail;
use crate::upstream::Goal;
use crate::vat::Vat;

/// The language of the kernel's own tests.
#[derive(Debug)]
pub struct Toy;

/// A reference to an actor.
pub struct ToyRef {
    cell: ActorCell<Toy>,
}

/// A promise.
#[derive(Default)]
pub struct ToyPromise {
    cell: PromiseCell<Toy>,
}

/// A strong reference to an actor.
pub type Actor = Arc<ToyRef>;
/// A shared promise.
pub type Promise = Arc<ToyPromise>;
/// What an actor does.
pub type Behavior = Arc<dyn Act>;
/// A handler of a settled promise.
pub type Handler = Box<dyn FnOnce(&Turn<'_>, Option<Outcome<Toy>>) -> Result<Value, Fault> + Send>;

/// A listener for partial updates.
pub type Listener = Arc<dyn Fn(&Turn<'_>, Value) -> Result<Value, Fault> + Send + Sync>;

/// Code that waits for a promise; it gives `None` if it has suspended itself again.
pub type Continuation =
    Box<dyn FnOnce(&Turn<'_>, Outcome<Toy>, &Promise) -> Result<Option<Value>, Fault> + Send>;

/// Such code, and the actor whose behavior it is part of, if it is part of one.
pub struct Suspended {
    actor: Option<Actor>,
    go_on: Continuation,
}

/// A state that is changed in place, and what it was.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The state.
    pub state: Arc<Mutex<i64>>,
    /// What it was.
    pub value: i64,
}

/// What may be sent and answered.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Unit,
    /// A number.
    Int(i64),
    /// A text.
    Text(Arc<str>),
    /// A reference.
    Actor(Actor),
    /// A promise.
    Promise(Promise),
    /// Something to run. It can't be stored.
    Code(Behavior),
}

/// Why something failed.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An actor said so.
    Raised(String),
    /// The kernel said so.
    Kernel(KernelError),
    /// Somebody outside wants it to stop.
    Interrupt,
}

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// How many wakers this thread has looked at, to find one.
pub fn looks() -> usize {
    LOOKS.get()
}

/// Somebody outside all vats who waits.
pub struct Waker {
    /// Gets the outcome.
    pub sender: Sender<Outcome<Toy>>,
    /// Not 0, and not that of another one.
    pub place: usize,
}

/// A message.
#[derive(Clone, Default)]
pub struct Message {
    /// What is asked for.
    pub method: &'static str,
    /// With what.
    pub value: Value,
}

/// What an actor returns.
pub enum Reply {
    /// A value.
    Value(Value),
    /// It becomes this, and returns a value.
    Become(Behavior, Value),
}

/// The code of an actor.
pub trait Act: Send + Sync + 'static {
    /// Handles a message.
    fn act(&self, turn: &Turn<'_>, message: Message) -> Result<Reply, Fault>;

    /// Its portrait, if it has one.
    fn sketch(&self) -> Option<Sketch> {
        None
    }

    /// Whether it may change without saying so.
    fn changes_in_place(&self) -> bool {
        false
    }
}

impl<F> Act for F
where
    F: Fn(&Turn<'_>, Message) -> Result<Reply, Fault> + Send + Sync + 'static,
{
    fn act(&self, turn: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        self(turn, message)
    }
}

/// A behavior from a closure. It has no portrait.
pub fn behavior<F>(act: F) -> Behavior
where
    F: Fn(&Turn<'_>, Message) -> Result<Reply, Fault> + Send + Sync + 'static,
{
    Arc::new(act)
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Churn<Toy>>>> = const { RefCell::new(None) };
    /// The vats that the event loop of this thread is to run in its next round; `None` if it has none.
    static LOOP: RefCell<Option<Vec<Arc<Vat<Toy>>>>> = const { RefCell::new(None) };
}

/// The churn that this thread runs.
pub fn current() -> Option<Rc<Churn<Toy>>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// What was reported, with the vat's name.
static REPORTS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
/// Runs `f` on a thread with an event loop.
pub fn on_a_loop<T>(f: impl FnOnce() -> T) -> T {
    LOOP.with_borrow_mut(|vats| *vats = Some(Vec::new()));
    let answer = f();
    LOOP.with_borrow_mut(|vats| *vats = None);
    answer
}

/// The vats that were left to the event loop of this thread since the last call.
pub fn left_to_loop() -> Vec<Arc<Vat<Toy>>> {
    LOOP.with_borrow_mut(|vats| vats.as_mut().map(std::mem::take).unwrap_or_default())
}

/// As many notes are kept at most.
const NOTES_KEPT: usize = 1000;

/// What was noted in errors, with the vat's name.
static NOTES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

impl Host for Toy {
    type Cx<'a> = ();
    type Actor = Actor;
    type WeakActor = Weak<ToyRef>;
    type Behavior = Behavior;
    type Message = Message;
    type Name = &'static str;
    type Value = Value;
    type Error = Fault;
    type Promise = Promise;
    type WeakPromise = Weak<ToyPromise>;
    type Function = Handler;
    type Partial = Listener;
    type Suspended = Suspended;
    type Right = ();
    type Waker = Waker;
    type Saved = Saved;
    type Loop = Sender<Arc<Vat<Toy>>>;
    type Env = Env;
    type Likeness = Portrait<Actor, Promise>;

    fn actor_cell(actor: &Actor) -> &ActorCell<Self> {
        &actor.cell
    }

    fn promise_cell(promise: &Promise) -> &PromiseCell<Self> {
        &promise.cell
    }

    fn clone_actor((): (), actor: &Actor) -> Actor {
        actor.clone()
    }

    fn clone_behavior((): (), behavior: &Behavior) -> Behavior {
        behavior.clone()
    }

    fn clone_value((): (), value: &Value) -> Value {
        value.clone()
    }

    fn clone_error((): (), error: &Fault) -> Fault {
        error.clone()
    }

    fn clone_promise((): (), promise: &Promise) -> Promise {
        promise.clone()
    }

    fn clone_partial((): (), listener: &Listener) -> Listener {
        listener.clone()
    }

    fn downgrade((): (), actor: &Actor) -> Result<Weak<ToyRef>, Fault> {
        Ok(Arc::downgrade(actor))
    }

    fn upgrade((): (), weak: &Weak<ToyRef>) -> Option<Actor> {
        weak.upgrade()
    }

    fn new_promise((): (), cell: PromiseCell<Self>) -> Result<Promise, Fault> {
        Ok(Arc::new(ToyPromise { cell }))
    }

    fn downgrade_promise((): (), promise: &Promise) -> Result<Weak<ToyPromise>, Fault> {
        Ok(Arc::downgrade(promise))
    }

    fn upgrade_promise((): (), weak: &Weak<ToyPromise>) -> Option<Promise> {
        weak.upgrade()
    }

    fn same_behavior(a: &Behavior, b: &Behavior) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
    }

    fn as_promise((): (), value: &Value) -> Option<Promise> {
        match value {
            Value::Promise(promise) => Some(promise.clone()),
            _ => None,
        }
    }

    fn as_actor((): (), value: &Value) -> Option<Actor> {
        match value {
            Value::Actor(actor) => Some(actor.clone()),
            _ => None,
        }
    }

    fn reference((): (), actor: Actor) -> Value {
        Value::Actor(actor)
    }

    fn describe_value((): (), value: &Value) -> String {
        format!("{value:?}")
    }

    fn describe_promise((): (), _: &Promise) -> String {
        "a promise".to_owned()
    }

    fn describe_actor((): (), actor: &Actor) -> String {
        format!("{:?}", actor.cell)
    }

    fn method((): (), message: &Message) -> Option<&'static str> {
        Some(message.method)
    }

    fn clone_name((): (), name: &&'static str) -> &'static str {
        name
    }

    fn error_value((): (), error: &Fault) -> Value {
        Value::Text(error.to_string().into())
    }

    fn note((): (), error: &Fault, place: &Place<'_, Self>) {
        let actor = place.actor.map_or_else(|| "no actor".to_owned(), |actor| format!("{:?}", actor.cell));
        let mut notes = NOTES.lock();
        if notes.len() == NOTES_KEPT {
            notes.clear();
        }
        notes.push((place.vat.name().to_owned(), format!("{error}: turn {} of {actor}", place.turn)));
    }

    fn deliver((): (), churn: &Rc<Churn<Self>>, actor: &Actor, message: &Message) -> Result<Value, Fault> {
        let behavior = churn.behavior((), actor)?;
        match behavior.act(&Turn::new(churn), message.clone())? {
            Reply::Value(value) => Ok(value),
            Reply::Become(next, value) => churn.change((), actor, &behavior, next).map(|()| value),
        }
    }

    fn react(
        (): (),
        churn: &Rc<Churn<Self>>,
        handler: &mut Option<Handler>,
        outcome: Option<Outcome<Self>>,
    ) -> Result<Value, Fault> {
        handler.take().map_or(Ok(Value::Unit), |handler| handler(&Turn::new(churn), outcome))
    }

    fn update((): (), churn: &Rc<Churn<Self>>, listener: Listener, value: Value) -> Result<Value, Fault> {
        listener(&Turn::new(churn), value)
    }

    fn resume(
        (): (),
        churn: &Rc<Churn<Self>>,
        code: Suspended,
        outcome: Outcome<Self>,
        answer: &Promise,
    ) -> Result<Option<Value>, Fault> {
        (code.go_on)(&Turn::new(churn), outcome, answer)
    }

    fn wake((): (), waker: Waker, outcome: Outcome<Self>) -> Option<(Promise, Outcome<Self>)> {
        // Nobody may be listening any more.
        let _ = waker.sender.send(outcome);
        None
    }

    fn place(waker: &Waker) -> usize {
        LOOKS.set(LOOKS.get() + 1);
        waker.place
    }

    fn goal(_waker: &Waker) -> Option<Goal<'_, Self>> {
        None
    }

    fn only_makes_a_value(_handler: &Self::Function) -> bool {
        false
    }

    fn references(promise: &Promise) -> usize {
        Arc::strong_count(promise)
    }

    fn call_soon(call: &Sender<Arc<Vat<Self>>>, vat: &Arc<Vat<Self>>) {
        // A loop that is gone runs nothing.
        let _ = call.send(vat.clone());
    }

    fn runs_a_loop((): ()) -> bool {
        LOOP.with_borrow(Option::is_some)
    }

    fn kind((): (), _actor: &Actor, message: &Message) -> Option<Kind> {
        Some(Kind(message.method.bytes().fold(0, |kind, byte| (kind << 8) ^ u64::from(byte))))
    }

    fn usage() -> Option<Usage> {
        Some(Usage { waits: 0, processor: Duration::ZERO })
    }

    fn run_soon(vat: &Arc<Vat<Self>>) {
        LOOP.with_borrow_mut(|vats| vats.get_or_insert_default().push(vat.clone()));
    }

    fn is_changed((): (), saved: &Saved) -> Result<bool, Fault> {
        Ok(*saved.state.lock() != saved.value)
    }

    fn restore(saved: Saved) {
        *saved.state.lock() = saved.value;
    }

    fn exchange((): (), saved: Saved) -> Result<Saved, Fault> {
        let value = std::mem::replace(&mut *saved.state.lock(), saved.value);
        Ok(Saved { value, ..saved })
    }

    fn clone_saved((): (), saved: &Saved) -> Saved {
        saved.clone()
    }

    fn portrait((): (), env: &Env, actor: &Actor) -> Result<Portrait<Actor, Promise>, Fault> {
        let behavior = match actor.cell.state().life() {
            Life::Live(behavior) => behavior.clone(),
            _ => return Err(Fault::Raised(format!("{:?} has no behavior", actor.cell))),
        };
        env.portrait(actor.cell.vat(), &behavior)
            .map_err(|why| Fault::Raised(format!("{:?} can't be stored: {why}", actor.cell)))
    }

    fn field_of(shape: &Shape, record: &Record, index: usize) -> Option<String> {
        actors::field_of(shape, record, index)
    }

    fn traced((): (), error: Fault, _: &Actor, trail: &Trail) -> Fault {
        match error {
            Fault::Raised(why) => Fault::Raised(format!("{why} (reached by {trail})")),
            other => other,
        }
    }

    fn rehydrate(
        (): (),
        env: &Env,
        _: &Actor,
        shape: &Shape,
        record: &Record,
        refs: Vec<Actor>,
        far: Vec<Promise>,
    ) -> Result<(Behavior, bool), Fault> {
        env.rehydrate(shape, record, &refs, &far).map(|behavior| (behavior, false))
    }

    fn likeness((): (), env: &Env, actor: &Actor) -> Result<Portrait<Actor, Promise>, Fault> {
        Self::portrait((), env, actor)
    }

    fn remake(
        (): (),
        env: &Env,
        _: &Actor,
        likeness: &Portrait<Actor, Promise>,
    ) -> Result<(Behavior, bool), Fault> {
        let (name, payload) = (likeness.name.clone(), likeness.payload.clone());
        let record = Record { shape: ShapeId(0), name, slots: Vec::new(), far: Vec::new(), payload };
        let far: Vec<_> = likeness.far.iter().map(|_| Promise::default()).collect();
        env.rehydrate(&likeness.shape, &record, &likeness.refs, &far).map(|behavior| (behavior, false))
    }

    fn may_sleep((): (), behavior: &Behavior) -> MaySleep {
        match Arc::strong_count(behavior) {
            1 if behavior.changes_in_place() => MaySleep::IfUnchanged,
            1 => MaySleep::Yes,
            _ => MaySleep::No,
        }
    }

    fn suspended_in(code: &Suspended) -> Option<&Actor> {
        code.actor.as_ref()
    }

    fn ghost((): (), vat: &Arc<Vat<Self>>, slot: Slot) -> Result<Actor, Fault> {
        Ok(Arc::new(ToyRef { cell: ActorCell::ghost(vat.clone(), slot) }))
    }

    fn error((): (), error: KernelError) -> Fault {
        Fault::Kernel(error)
    }

    fn report((): (), vat: &Vat<Self>, what: &str, error: &Fault) {
        REPORTS.lock().push((vat.name().to_owned(), format!("{what}: {error}")));
    }

    fn no_env((): ()) -> Option<Arc<Env>> {
        None
    }

    fn warn((): (), what: &str) {
        REPORTS.lock().push((String::new(), what.to_owned()));
    }

    fn thread_id() -> u64 {
        1
    }

    fn report_slow((): (), vat: &Vat<Self>, _: u64, lasting: Duration) {
        REPORTS.lock().push((vat.name().to_owned(), format!("a turn takes longer than {lasting:?}")));
    }

    fn set_current(churn: Option<Rc<Churn<Self>>>) -> Option<Rc<Churn<Self>>> {
        CURRENT.with(|current| current.replace(churn))
    }

    fn detached<R: Send>((): (), f: impl FnOnce() -> R + Send) -> R {
        f()
    }

    fn attached<R>(f: impl for<'a> FnOnce(Self::Cx<'a>) -> R) -> Option<R> {
        Some(f(()))
    }

    fn interrupt_again((): (), _: Fault) {}

    fn is_interrupt((): (), error: &Fault) -> bool {
        matches!(error, Fault::Interrupt)
    }

    fn interrupted((): ()) -> Result<(), Fault> {
        Ok(())
    }
}

impl Drop for ToyRef {
    fn drop(&mut self) {
        if self.cell.is_stored() {
            self.cell.vat().actor_dropped(self.cell.slot());
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupt => f.write_str("interrupted"),
            Self::Raised(text) => f.write_str(text),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("nothing"),
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Actor(actor) => actor.fmt(f),
            Self::Promise(_) => f.write_str("a promise"),
            Self::Code(_) => f.write_str("some code"),
        }
    }
}

impl fmt::Debug for ToyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}

impl fmt::Debug for ToyPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a promise")
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit, Self::Unit) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Actor(a), Self::Actor(b)) => Arc::ptr_eq(a, b),
            (Self::Promise(a), Self::Promise(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
