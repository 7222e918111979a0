//! The kernel's host: Python.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use goblins_core::actor::ActorCell;
use goblins_core::churn::Churn;
use goblins_core::error::KernelError;
use goblins_core::fork::is_forked;
use goblins_core::host::Host;
use goblins_core::ids::Slot;
use goblins_core::pace::{Kind, Usage};
use goblins_core::promise::{Outcome, PromiseCell};
use goblins_core::record::{Portrait, Record, Shape};
use goblins_core::recording::Place;
use goblins_core::residency::MaySleep;
use goblins_core::trail::Trail;
use goblins_core::upstream::Goal;
use goblins_core::vat::Vat;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::attaching::attached;
use crate::behavior::describe_value;
use crate::calls::{self, Args};
use crate::collector;
use crate::coroutine::{self, Closing, Suspended};
use crate::counter;
use crate::environment::Environment;
use crate::errors::{self, Fault, kernel_error, log_slow_turn, log_unheard, log_warning};
use crate::event_loop::{self, EventLoop};
use crate::handing_out;
use crate::interrupts;
use crate::joining::Values;
use crate::kinds;
use crate::leaf;
use crate::listening::part_of;
use crate::past;
use crate::portrait::{self, Likeness};
use crate::promise::{self, Latch, Promise};
use crate::refs::{Ref, invoke};
use crate::resolver::Right;
use crate::restore::{self, Far};
use crate::saved::Saved;
use crate::sealed;
use crate::sleep;
use crate::trail;

unsafe extern "C" {
    fn PyThread_get_thread_ident() -> std::ffi::c_ulong;
}

/// Python, as the kernel sees it.
pub(crate) struct PyHost;

/// A method name and arguments.
pub(crate) struct Message {
    pub(crate) method: Option<Py<PyString>>,
    pub(crate) args: Py<PyTuple>,
    pub(crate) kwargs: Option<Py<PyDict>>,
}

impl Message {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.args)?;
        visit.call(&self.kwargs)
    }
}

/// What is done with an outcome in a turn of its own.
pub(crate) enum Handler {
    /// A function given to `on` gets it.
    Call(Py<PyAny>),
    /// The part under this key is taken.
    Part(Py<PyAny>),
    /// A coroutine that will not go on is closed.
    Close(Closing),
}

/// Somebody outside all vats who waits for a promise.
pub(crate) enum Waker {
    /// A thread in `result()`.
    Latch(Arc<Latch>),
    /// A task that waits for this future of a loop.
    Future { future: Py<PyAny>, home: Arc<EventLoop> },
    /// A function that gets value and error.
    Callback(Py<PyAny>),
    /// The promise of a part.
    Part { key: Py<PyAny>, part: Py<Promise> },
    /// The promise of whatever settles first.
    First(Py<Promise>),
    /// The promise of all values, and where they are gathered.
    All { index: usize, values: Py<Values>, joined: Py<Promise> },
}

impl Waker {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Latch(_) => Ok(()),
            Self::Future { future, .. } => visit.call(future),
            Self::Callback(callback) => visit.call(callback),
            Self::Part { key, part } => {
                visit.call(key)?;
                visit.call(part)
            }
            Self::First(promise) => visit.call(promise),
            Self::All { values, joined, .. } => {
                visit.call(values)?;
                visit.call(joined)
            }
        }
    }
}

/// What a handler has answered, as it may leave its actor.
fn handed_out<'py>(
    py: Python<'py>,
    churn: &Rc<Churn<PyHost>>,
    answer: PyResult<Bound<'py, PyAny>>,
) -> Result<Py<PyAny>, Fault> {
    let answer = if past::is_any() { past::judge(py, answer) } else { answer };
    let answer = answer.map_err(|error| handing_out::error_handed_out(py, error))?;
    Ok(handing_out::handed_out(coroutine::started(churn, None, answer)?)?.unbind())
}

impl Host for PyHost {
    type Cx<'a> = Python<'a>;
    type Actor = Py<Ref>;
    type WeakActor = Py<PyWeakrefReference>;
    type Behavior = Py<PyAny>;
    type Message = Message;
    type Name = Py<PyString>;
    type Value = Py<PyAny>;
    type Error = Fault;
    type Promise = Py<Promise>;
    type WeakPromise = Py<PyWeakrefReference>;
    type Function = Handler;
    type Partial = Py<PyAny>;
    type Suspended = Suspended;
    type Right = Arc<Right>;
    type Saved = Saved;
    type Waker = Waker;
    type Loop = Arc<EventLoop>;
    type Env = Environment;
    type Likeness = Likeness;

    fn actor_cell(actor: &Py<Ref>) -> &ActorCell<Self> {
        &actor.get().cell
    }

    fn promise_cell(promise: &Py<Promise>) -> &PromiseCell<Self> {
        &promise.get().cell
    }

    fn clone_actor(py: Python<'_>, actor: &Py<Ref>) -> Py<Ref> {
        actor.clone_ref(py)
    }

    fn drop_actor(py: Python<'_>, actor: Py<Ref>) {
        actor.drop_ref(py);
    }

    fn clone_behavior(py: Python<'_>, behavior: &Py<PyAny>) -> Py<PyAny> {
        behavior.clone_ref(py)
    }

    fn drop_behavior(py: Python<'_>, behavior: Py<PyAny>) {
        behavior.drop_ref(py);
    }

    fn clone_value(py: Python<'_>, value: &Py<PyAny>) -> Py<PyAny> {
        value.clone_ref(py)
    }

    fn clone_error(py: Python<'_>, error: &Fault) -> Fault {
        error.clone_ref(py)
    }

    fn clone_promise(py: Python<'_>, promise: &Py<Promise>) -> Py<Promise> {
        promise.clone_ref(py)
    }

    fn clone_partial(py: Python<'_>, listener: &Py<PyAny>) -> Py<PyAny> {
        listener.clone_ref(py)
    }

    fn downgrade(py: Python<'_>, actor: &Py<Ref>) -> Result<Py<PyWeakrefReference>, Fault> {
        let weak = PyWeakrefReference::new(actor.bind(py))?;
        collector::leave(weak.as_any());
        Ok(weak.unbind())
    }

    fn upgrade(py: Python<'_>, weak: &Py<PyWeakrefReference>) -> Option<Py<Ref>> {
        let actor = weak.bind(py).upgrade()?;
        Some(actor.cast_into_exact::<Ref>().ok()?.unbind())
    }

    fn new_promise(py: Python<'_>, cell: PromiseCell<Self>) -> Result<Py<Promise>, Fault> {
        Ok(Promise::around(py, cell)?)
    }

    fn downgrade_promise(py: Python<'_>, promise: &Py<Promise>) -> Result<Py<PyWeakrefReference>, Fault> {
        Ok(PyWeakrefReference::new(promise.bind(py))?.unbind())
    }

    fn upgrade_promise(py: Python<'_>, weak: &Py<PyWeakrefReference>) -> Option<Py<Promise>> {
        let promise = weak.bind(py).upgrade()?;
        Some(promise.cast_into_exact::<Promise>().ok()?.unbind())
    }

    fn same_behavior(a: &Py<PyAny>, b: &Py<PyAny>) -> bool {
        a.is(b)
    }

    fn as_promise(py: Python<'_>, value: &Py<PyAny>) -> Option<Py<Promise>> {
        Some(value.bind(py).cast_exact::<Promise>().ok()?.clone().unbind())
    }

    fn settled_with(py: Python<'_>, promise: &Py<Promise>, outcome: Outcome<Self>) -> Outcome<Self> {
        if promise.get().was_stored_unsettled() { sealed::sealed(py, outcome) } else { outcome }
    }

    fn as_actor(py: Python<'_>, value: &Py<PyAny>) -> Option<Py<Ref>> {
        Some(value.bind(py).cast_exact::<Ref>().ok()?.clone().unbind())
    }

    fn reference(_py: Python<'_>, actor: Py<Ref>) -> Py<PyAny> {
        actor.into_any()
    }

    fn describe_value(py: Python<'_>, value: &Py<PyAny>) -> String {
        describe_value(&sealed::inside(py, value))
    }

    fn describe_promise(py: Python<'_>, promise: &Py<Promise>) -> String {
        promise::describe(py, promise.get())
    }

    fn describe_actor(py: Python<'_>, actor: &Py<Ref>) -> String {
        actor.get().describe(py)
    }

    fn method(py: Python<'_>, message: &Message) -> Option<Py<PyString>> {
        message.method.as_ref().map(|method| method.clone_ref(py))
    }

    fn clone_name(py: Python<'_>, name: &Py<PyString>) -> Py<PyString> {
        name.clone_ref(py)
    }

    fn drop_name(py: Python<'_>, name: Py<PyString>) {
        name.drop_ref(py);
    }

    fn error_value(py: Python<'_>, error: &Fault) -> Py<PyAny> {
        error.value(py).into_any()
    }

    fn note(py: Python<'_>, error: &Fault, place: &Place<'_, Self>) {
        errors::note(py, error, place);
    }

    fn deliver(
        py: Python<'_>,
        churn: &Rc<Churn<Self>>,
        actor: &Py<Ref>,
        message: &Message,
    ) -> Result<Py<PyAny>, Fault> {
        let method = message.method.as_ref().map(|method| method.bind(py));
        let kwargs = message.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        let args = Args::Packed(message.args.bind(py), kwargs);
        match invoke(churn, actor.bind(py), method, args) {
            Ok(answer) => Ok(answer.unbind()),
            Err(error) => Err(Fault::from(error).of_a_promise(py)),
        }
    }

    fn react(
        py: Python<'_>,
        churn: &Rc<Churn<Self>>,
        handler: &mut Option<Handler>,
        outcome: Option<Outcome<Self>>,
    ) -> Result<Py<PyAny>, Fault> {
        if matches!(handler, Some(Handler::Close(_)))
            && let Some(Handler::Close(closing)) = handler.take()
        {
            return Ok(closing.run(py)?.unbind());
        }
        let Some(handler) = &*handler else {
            return Ok(py.None());
        };
        let answer = match (handler, outcome) {
            (Handler::Part(key), Some(Outcome::Fulfilled(value))) => part_of(py, &value, key),
            (Handler::Part(_), Some(Outcome::Broken(error))) => return Err(error),
            (Handler::Close(_), _) => return Ok(py.None()),
            (Handler::Call(function) | Handler::Part(function), None) => {
                calls::call_with(function.bind(py), ())
            }
            (Handler::Call(function), Some(Outcome::Fulfilled(value))) => {
                sealed::opened(py, value).and_then(|value| calls::call_with(function.bind(py), (value,)))
            }
            (Handler::Call(function), Some(Outcome::Broken(error))) => {
                calls::call_with(function.bind(py), (error.value(py),))
            }
        };
        handed_out(py, churn, answer).map_err(|error| error.of_a_promise(py))
    }

    fn update(
        py: Python<'_>,
        churn: &Rc<Churn<Self>>,
        listener: Py<PyAny>,
        value: Py<PyAny>,
    ) -> Result<Py<PyAny>, Fault> {
        handed_out(py, churn, calls::call_with(listener.bind(py), (value,)))
    }

    fn resume(
        py: Python<'_>,
        churn: &Rc<Churn<Self>>,
        code: Suspended,
        outcome: Outcome<Self>,
        answer: &Py<Promise>,
    ) -> Result<Option<Py<PyAny>>, Fault> {
        code.resume(py, churn, outcome, answer).map_err(|error| Fault::from(error).of_a_promise(py))
    }

    fn wake(py: Python<'_>, waker: Waker, outcome: Outcome<Self>) -> Option<(Py<Promise>, Outcome<Self>)> {
        let callback = match (waker, outcome) {
            (Waker::Latch(latch), _) => {
                latch.set();
                return None;
            }
            (Waker::Future { future, home }, _) => {
                home.wake(py, future);
                return None;
            }
            (Waker::First(promise), outcome) => return Some((promise, outcome)),
            (
                Waker::Part { part: promise, .. } | Waker::All { joined: promise, .. },
                Outcome::Broken(error),
            ) => {
                return Some((promise, Outcome::Broken(error)));
            }
            (Waker::Part { key, part }, Outcome::Fulfilled(value)) => {
                let found = part_of(py, &value, &key).map(Bound::unbind).map_err(Fault::from);
                return Some((part, found.into()));
            }
            (Waker::All { index, values, joined }, Outcome::Fulfilled(value)) => {
                let all = match sealed::opened(py, value) {
                    Ok(value) => values.get().put(py, index, value.unbind())?,
                    Err(error) => Err(error),
                };
                return Some((joined, all.map_err(Fault::from).into()));
            }
            (Waker::Callback(callback), outcome) => (callback, outcome),
        };
        let (callback, value, error) = match callback {
            (callback, Outcome::Fulfilled(value)) => match sealed::opened(py, value) {
                Ok(value) => (callback, value.unbind(), py.None()),
                Err(error) => (callback, py.None(), error.into_value(py).into_any()),
            },
            (callback, Outcome::Broken(error)) => (callback, py.None(), error.value(py).into_any()),
        };
        let call = || calls::call_with(callback.bind(py), (&value, &error));
        if let Err(error) = interrupts::again_if_interrupted(py, call) {
            log_unheard(py, "a function that waited for a promise failed", &error.into());
        }
        None
    }

    fn place(waker: &Waker) -> usize {
        match waker {
            Waker::Latch(latch) => Arc::as_ptr(latch) as usize,
            Waker::Future { future: waiting, .. } | Waker::Callback(waiting) => waiting.as_ptr() as usize,
            Waker::Part { .. } | Waker::First(_) | Waker::All { .. } => 0,
        }
    }

    fn goal(waker: &Waker) -> Option<Goal<'_, Self>> {
        match waker {
            Waker::Latch(_) | Waker::Future { .. } | Waker::Callback(_) => None,
            Waker::Part { part: promise, .. } | Waker::All { joined: promise, .. } => {
                Some(Goal { promise, any: false })
            }
            Waker::First(promise) => Some(Goal { promise, any: true }),
        }
    }

    fn only_makes_a_value(handler: &Handler) -> bool {
        matches!(handler, Handler::Part(_))
    }

    fn references(promise: &Py<Promise>) -> usize {
        // SAFETY: the promise is alive, and whoever asks is attached.
        unsafe { ffi::Py_REFCNT(promise.as_ptr()) as usize }
    }

    fn is_changed(py: Python<'_>, saved: &Saved) -> Result<bool, Fault> {
        Ok(saved.is_changed(py)?)
    }

    fn restore(saved: Saved) {
        saved.restore();
    }

    fn exchange(py: Python<'_>, saved: Saved) -> Result<Saved, Fault> {
        Ok(saved.exchange(py)?)
    }

    fn clone_saved(py: Python<'_>, saved: &Saved) -> Saved {
        saved.clone_ref(py)
    }

    fn call_soon(call: &Arc<EventLoop>, vat: &Arc<Vat<Self>>) {
        // At exit no loop runs any more.
        attached(|py| call.call_soon(py, vat));
    }

    fn runs_a_loop(py: Python<'_>) -> bool {
        event_loop::runs_here(py)
    }

    fn kind(py: Python<'_>, actor: &Py<Ref>, message: &Message) -> Option<Kind> {
        kinds::kind(actor.bind(py), message.method.as_ref().map(|method| method.bind(py)))
    }

    fn has_counter() -> bool {
        counter::is_there()
    }

    fn count() -> u64 {
        counter::count()
    }

    fn usage() -> Option<Usage> {
        kinds::usage()
    }

    fn run_soon(vat: &Arc<Vat<Self>>) {
        if attached(|py| event_loop::run_soon(py, vat)).is_none() {
            vat.hand_over();
        }
    }

    fn no_env(py: Python<'_>) -> Option<Arc<Environment>> {
        Environment::empty(py).ok()
    }

    fn warn(py: Python<'_>, what: &str) {
        log_warning(py, what);
    }

    fn thread_id() -> u64 {
        // SAFETY: it may be called by any thread.
        unsafe { PyThread_get_thread_ident() as u64 }
    }

    fn report_unclosed(py: Python<'_>, what: &str) {
        if !is_forked() {
            errors::warn_unclosed(py, what);
        }
    }

    fn report_slow(py: Python<'_>, vat: &Vat<Self>, thread: u64, lasting: Duration) {
        log_slow_turn(py, vat.name(), thread, lasting);
    }

    fn portrait(
        py: Python<'_>,
        env: &Environment,
        actor: &Py<Ref>,
    ) -> Result<Portrait<Py<Ref>, Py<Promise>>, Fault> {
        Ok(portrait::take(py, env, actor.bind(py))?)
    }

    fn field_of(shape: &Shape, record: &Record, index: usize) -> Option<String> {
        trail::field_of(shape, record, index)
    }

    fn traced(py: Python<'_>, error: Fault, actor: &Py<Ref>, trail: &Trail) -> Fault {
        trail::traced(py, error, actor, trail)
    }

    fn rehydrate(
        py: Python<'_>,
        env: &Environment,
        actor: &Py<Ref>,
        shape: &Shape,
        record: &Record,
        refs: Vec<Py<Ref>>,
        far: Vec<Py<Promise>>,
    ) -> Result<(Py<PyAny>, bool), Fault> {
        let actor = actor.bind(py);
        let made = restore::rehydrate(py, env, actor, shape, record, (&refs, Far::Promises(&far)))?;
        leaf::settle(actor, made.0.bind(py));
        Ok(made)
    }

    fn likeness(py: Python<'_>, env: &Environment, actor: &Py<Ref>) -> Result<Likeness, Fault> {
        Ok(portrait::likeness(py, env, actor.bind(py))?)
    }

    fn remake(
        py: Python<'_>,
        env: &Environment,
        actor: &Py<Ref>,
        likeness: &Likeness,
    ) -> Result<(Py<PyAny>, bool), Fault> {
        let actor = actor.bind(py);
        leaf::show(actor);
        Ok(restore::remake(py, env, actor, likeness)?)
    }

    fn may_sleep(py: Python<'_>, behavior: &Py<PyAny>) -> MaySleep {
        interrupts::found(py, sleep::may_sleep(behavior.bind(py))).unwrap_or(MaySleep::No)
    }

    fn suspended_in(code: &Suspended) -> Option<&Py<Ref>> {
        code.actor()
    }

    fn ghost(py: Python<'_>, vat: &Arc<Vat<Self>>, slot: Slot) -> Result<Py<Ref>, Fault> {
        let ghost = calls::make(py, Ref::ghost(vat.clone(), slot))?;
        collector::leave(ghost.as_any());
        Ok(ghost.unbind())
    }

    fn error(_py: Python<'_>, error: KernelError) -> Fault {
        kernel_error(&error).into()
    }

    fn report(py: Python<'_>, vat: &Vat<Self>, what: &str, error: &Fault) {
        // The vat may go while an error is on its way.
        errors::aside(py, |py| log_unheard(py, &format!("vat {}: {what}", vat.title()), error));
    }

    fn set_current(churn: Option<Rc<Churn<Self>>>) -> Option<Rc<Churn<Self>>> {
        crate::current::replace(churn)
    }

    fn together<R>(py: Python<'_>, f: impl FnOnce() -> R) -> R {
        event_loop::together(py, f)
    }

    fn detached<R: Send>(py: Python<'_>, f: impl FnOnce() -> R + Send) -> R {
        py.detach(f)
    }

    fn attached<R>(f: impl for<'a> FnOnce(Python<'a>) -> R) -> Option<R> {
        attached(f)
    }

    fn interrupt_again(py: Python<'_>, _error: Fault) {
        interrupts::come_again(py);
    }

    fn is_interrupt(py: Python<'_>, error: &Fault) -> bool {
        interrupts::is_interrupt(py, error.value(py).bind(py))
    }

    fn interrupted(py: Python<'_>) -> Result<(), Fault> {
        Ok(py.check_signals()?)
    }
}
