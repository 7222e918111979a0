//! Promises and resolvers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use goblins_core::error::KernelError;
use goblins_core::ids::Slot;
use goblins_core::job::Task;
use goblins_core::partial::Hearer;
use goblins_core::promise::{Outcome, Progress, PromiseCell, Reaction, Seen, Waiter};
use goblins_core::vat::Vat;
use goblins_core::wait_outside;
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyAttributeError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::awaiting;
use crate::blocks;
use crate::calls::Args;
use crate::current::{current, current_turn, occupied};
use crate::elsewhere;
use crate::errors::{aside, deadlock, kernel_error, no_turn_error};
use crate::event_loop;
use crate::flatly;
use crate::host::{Handler, PyHost, Waker};
use crate::listening;
use crate::messages::{self, BoundMessage};
use crate::origin::Origin;
use crate::refs::{self, Ref, Target, invoke, is_hidden, own_attribute};
use crate::sealed;

/// A value that is still to come.
#[pyclass(frozen, weakref, module = "goblins", name = "Promise")]
pub(crate) struct Promise {
    pub(crate) cell: PromiseCell<PyHost>,
    /// It came from a `send` outside all turns: one who waits for it may do the work.
    helped: bool,
    /// The message whose answer it is.
    sent: Option<Sent>,
    /// Where it was made, if by a program and not by the library.
    origin: Option<Origin>,
    /// What has been stored of it: nothing, that it had not settled, or that its value can't be stored.
    stored_as: AtomicU8,
    /// The collector has announced its end.
    announced: AtomicBool,
}

const UNSETTLED: u8 = 1;
const LOST: u8 = 2;

/// A message, for the report of an error that nobody asked for.
pub(crate) struct Sent {
    pub(crate) vat: Arc<Vat<PyHost>>,
    pub(crate) slot: Slot,
    pub(crate) name: Option<Py<PyString>>,
    pub(crate) method: Option<Py<PyString>>,
}

impl Sent {
    pub(crate) fn to(py: Python<'_>, actor: &Ref, method: Option<Py<PyString>>) -> Self {
        let name = actor.name.get(py).map(|name| name.to_owned().unbind());
        Self { vat: actor.cell.vat().clone(), slot: actor.cell.slot(), name, method }
    }
}

impl Promise {
    /// The vat that one who waits for it may run.
    pub(crate) fn helper(&self) -> Option<&Arc<Vat<PyHost>>> {
        self.sent.as_ref().filter(|_| self.helped).map(|sent| &sent.vat)
    }

    fn new(cell: PromiseCell<PyHost>, helped: bool, sent: Option<Sent>, origin: Option<Origin>) -> Self {
        Self { cell, helped, sent, origin, stored_as: AtomicU8::new(0), announced: AtomicBool::new(false) }
    }

    /// One of the library's own.
    pub(crate) fn pending(py: Python<'_>) -> PyResult<Py<Self>> {
        Self::around(py, PromiseCell::new())
    }

    /// One that the program asked for, where it is now.
    pub(crate) fn asked_for(py: Python<'_>, helped: bool, sent: Option<Sent>) -> PyResult<Py<Self>> {
        Py::new(py, Self::new(PromiseCell::new(), helped, sent, Origin::here(py)))
    }

    /// Notes that the collector has announced its end.
    pub(crate) fn note_announced(&self) {
        self.announced.store(true, Ordering::Relaxed);
    }

    /// Whether the collector has announced its end: what it refers to may be in pieces.
    pub(crate) fn was_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }

    /// Settles it without a word to those who wait: they go with it, and may have been emptied by the collector.
    pub(crate) fn settle_in_silence(&self, outcome: Outcome<PyHost>) {
        let dropped = {
            let mut state = self.cell.state();
            let settled = Progress::Settled(outcome, Seen::ByAll);
            state.heard = true;
            (std::mem::replace(&mut state.progress, settled), std::mem::take(&mut state.waiters))
        };
        drop(dropped);
    }

    /// Where it was sent or made, if that is known.
    pub(crate) fn place(&self, py: Python<'_>) -> Option<String> {
        let place = self.origin.as_ref()?.describe(py)?;
        let verb = if self.sent.is_some() { "sent" } else { "made" };
        Some(format!("{verb} at {place}"))
    }

    /// The answer of code that an actor runs.
    pub(crate) fn answer(
        py: Python<'_>,
        actor: &Ref,
        method: Option<&Bound<'_, PyString>>,
    ) -> PyResult<Py<Self>> {
        let sent = Sent::to(py, actor, method.map(|method| method.clone().unbind()));
        Py::new(py, Self::new(PromiseCell::new(), false, Some(sent), None))
    }

    pub(crate) fn was_stored_unsettled(&self) -> bool {
        self.stored_as.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn note_stored_unsettled(&self) {
        self.stored_as.fetch_max(UNSETTLED, Ordering::Relaxed);
    }

    /// Notes that its value can't be stored; tells whether that is news.
    pub(crate) fn note_lost(&self) -> bool {
        self.stored_as.swap(LOST, Ordering::Relaxed) != LOST
    }

    pub(crate) fn around(py: Python<'_>, cell: PromiseCell<PyHost>) -> PyResult<Py<Self>> {
        Py::new(py, Self::new(cell, false, None, None))
    }
}

/// Signals a thread that waits for a promise.
#[derive(Default)]
pub(crate) struct Latch {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    pub(crate) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, patience: Duration) {
        let mut set = self.set.lock();
        if !*set {
            self.changed.wait_for(&mut set, patience);
        }
    }
}

/// How long a wait may last before Ctrl-C is looked for.
const SLICE: Duration = Duration::from_millis(50);

#[pymethods]
impl Promise {
    /// Waits for the outcome: returns the value, or raises the error that broke the promise.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(churn) = occupied() {
            return Err(deadlock(format!(
                "result() would block the vat {} that must go on for the promise to settle: use on(...) or await",
                churn.vat().title()
            )));
        }
        crate::runtime::check()?;
        // One that is too far off for the clock is none.
        let deadline =
            timeout.map(seconds).transpose()?.flatten().and_then(|wait| Instant::now().checked_add(wait));
        let this = slf.get();
        if let Some(outcome) = this.cell.outcome(py, None) {
            return Ok(outcome_result(py, outcome)?.unbind());
        }
        if let Some(vat) = this.helper() {
            vat.help(py)?;
            // What that ran may have forked.
            crate::runtime::check()?;
        }
        event_loop::hand_over_all();
        let latch = Arc::new(Latch::default());
        wait_outside::<PyHost>(py, slf.as_unbound(), Waiter::Outside(Waker::Latch(latch.clone())));
        let result = loop {
            if let Some(outcome) = this.cell.outcome(py, None) {
                return Ok(outcome_result(py, outcome)?.unbind());
            }
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break Err(PyTimeoutError::new_err(format!(
                    "{} has not settled in time",
                    describe(py, this)
                )));
            }
            let waiting = match this.home(py) {
                Some(vat) => elsewhere::wait_for(py, &vat, deadline.is_none()),
                None => Ok(None),
            };
            let waiting = match waiting {
                Ok(waiting) => waiting,
                Err(deadlock) => break Err(deadlock),
            };
            py.detach(|| latch.wait(left.min(SLICE)));
            drop(waiting);
            if let Err(interrupted) = py.check_signals() {
                break Err(interrupted);
            }
        };
        drop(this.cell.forget(Arc::as_ptr(&latch) as usize));
        result
    }

    /// Calls `settled(value, None)` or `settled(None, error)` once, from any thread.
    fn _subscribe(slf: &Bound<'_, Self>, settled: Py<PyAny>) -> PyResult<()> {
        crate::runtime::check()?;
        wait_outside::<PyHost>(slf.py(), slf.as_unbound(), Waiter::Outside(Waker::Callback(settled)));
        Ok(())
    }

    /// Takes a `_subscribe` back: what was given there is not called any more, unless it is being called just now.
    fn _unsubscribe(&self, settled: &Bound<'_, PyAny>) {
        drop(self.cell.forget(settled.as_ptr() as usize));
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        crate::runtime::check()?;
        if current().is_none() {
            blocks::check_wait(py, slf.as_unbound())?;
            return awaiting::wait(slf);
        }
        crate::coroutine::check_await()?;
        py.import("goblins._asyncio")?.call_method1("wait_in_turn", (slf,))
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(slf, None, Args::Packed(args, kwargs))
    }

    fn __getattribute__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let text = name.to_string_lossy();
        if matches!(&*text, "__iter__" | "__reversed__" | "__contains__") {
            // Python looks for these in the class, and there they only say what to do instead.
            return Err(PyAttributeError::new_err(format!("a promise has no attribute {text:?}")));
        }
        if is_hidden(name)? || text == "result" {
            return own_attribute(slf.as_any(), name);
        }
        BoundMessage::make(slf.py(), Target::Promise(slf.clone().unbind()), name)
    }

    fn __iter__(&self) -> PyResult<()> {
        Err(not_there_yet())
    }

    fn __reversed__(&self) -> PyResult<()> {
        Err(not_there_yet())
    }

    fn __contains__(&self, _item: &Bound<'_, PyAny>) -> PyResult<bool> {
        Err(not_there_yet())
    }

    fn __setattr__(&self, name: &Bound<'_, PyString>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(messages::no_fields_of_promise(name))
    }

    fn __delattr__(&self, name: &Bound<'_, PyString>) -> PyResult<()> {
        Err(messages::no_fields_of_promise(name))
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __deepcopy__(slf: &Bound<'_, Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(messages::no_pickle(slf.as_any()))
    }

    fn __getitem__(slf: &Bound<'_, Self>, key: Py<PyAny>) -> PyResult<Py<Self>> {
        listening::part(slf, key)
    }

    pub(crate) fn __repr__(&self) -> String {
        let state = self.cell.state();
        let progress = match &state.progress {
            Progress::Pending => "pending",
            Progress::Chained { .. } => "waiting for another promise",
            Progress::Settled(Outcome::Fulfilled(_), _) => "fulfilled",
            Progress::Settled(Outcome::Broken(_), _) => "broken",
        };
        format!("<Promise {progress}>")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.cell.try_state() else {
            return Ok(());
        };
        match &state.progress {
            Progress::Chained { next, ahead } => {
                visit.call(next)?;
                visit.call(ahead)?;
            }
            Progress::Settled(Outcome::Fulfilled(value), _) => visit.call(value)?,
            Progress::Settled(Outcome::Broken(error), _) => error.traverse(&visit)?,
            Progress::Pending => {}
        }
        if let Some(updates) = &state.updates {
            updates.iter().try_for_each(|update| visit.call(update.value()))?;
        }
        state.waiters.iter().try_for_each(|waiter| visit_waiter(waiter, &visit))
    }

    fn __clear__(&self) {
        self.let_go();
    }
}

fn visit_waiter(waiter: &Waiter<PyHost>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match waiter {
        Waiter::Chain(promise) => visit.call(promise),
        Waiter::Forward { message, resolver } => {
            message.traverse(visit)?;
            visit.call(resolver)
        }
        Waiter::Outside(waker) => waker.traverse(visit),
        Waiter::Vat(_, reaction) => visit_reaction(reaction, visit),
    }
}

fn visit_reaction(reaction: &Reaction<PyHost>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match reaction {
        Reaction::Forward { message, resolver } => {
            message.traverse(visit)?;
            visit.call(resolver)
        }
        Reaction::Listen { fulfilled, broken, derived } => {
            visit_handler(fulfilled.as_ref(), visit)?;
            visit_handler(broken.as_ref(), visit)?;
            visit.call(derived)
        }
        Reaction::Finally { handler, derived } => {
            visit_handler(Some(handler), visit)?;
            visit.call(derived)
        }
        Reaction::Resume { code, answer, .. } => {
            code.traverse(visit)?;
            visit.call(answer)
        }
        Reaction::Settle(waker) => waker.traverse(visit),
        Reaction::Chain(promise) => visit.call(promise),
        Reaction::Partial(listener) => visit.call(listener),
        Reaction::Describe(actor) => visit.call(actor),
    }
}

/// For the collector: what waits for a step of a vat.
pub(crate) fn visit_task(task: &Task<PyHost>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match task {
        Task::Deliver { actor, message, resolver } => {
            visit.call(actor)?;
            message.traverse(visit)?;
            visit.call(resolver)
        }
        Task::React { reaction, outcome } => {
            visit_reaction(reaction, visit)?;
            match outcome {
                Outcome::Fulfilled(value) => visit.call(value),
                Outcome::Broken(error) => error.traverse(visit),
            }
        }
        Task::Update { hearer, value } => {
            match hearer {
                Hearer::Listener(listener) => visit.call(listener)?,
                Hearer::Chained(promise) => visit.call(promise)?,
            }
            visit.call(value)
        }
        Task::Hear(promise) | Task::Find { promise, .. } => visit.call(promise),
        Task::Keep { actor, .. } => visit.call(actor),
        // Its parts are shown.
        Task::GoOn { .. } => Ok(()),
    }
}

fn visit_handler(handler: Option<&Handler>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match handler {
        Some(Handler::Call(handler) | Handler::Part(handler)) => visit.call(handler),
        Some(Handler::Close(closing)) => closing.traverse(visit),
        None => Ok(()),
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Promise {
    /// The vat that has to go on for it to settle, as far as that is known, if it runs on an event loop.
    fn home(&self, py: Python<'_>) -> Option<Arc<Vat<PyHost>>> {
        if !event_loop::are_used() {
            return None;
        }
        let further = |promise: &Self| match &promise.cell.state().progress {
            Progress::Pending => Ok(None),
            Progress::Chained { ahead, .. } => Ok(Some(ahead.clone_ref(py))),
            // It only has to get on the disk.
            Progress::Settled(..) => Err(()),
        };
        let Some(mut last) = further(self).ok()? else {
            return self.sent.as_ref().map(|sent| sent.vat.clone());
        };
        while let Some(next) = further(last.get()).ok()? {
            last = next;
        }
        last.get().sent.as_ref().map(|sent| sent.vat.clone())
    }

    /// Empties it, at the end of its life; an error that nobody asked for is logged then.
    fn let_go(&self) {
        let Some(state) = self.cell.clear() else {
            return;
        };
        if let (Progress::Settled(Outcome::Broken(error), _), false) = (&state.progress, state.heard) {
            Python::try_attach(|py| aside(py, |py| self.speak_at_the_end(py, error)));
        }
        flatly::drop(state);
    }
}

/// A promise, and the message whose answer it is.
pub(crate) fn describe(py: Python<'_>, promise: &Promise) -> String {
    match &promise.sent {
        Some(sent) => {
            let actor =
                refs::describe(py, sent.name.as_ref().map(|name| name.bind(py)), &sent.vat, sent.slot);
            match &sent.method {
                Some(method) => format!("the promise of {} to {actor}", method.bind(py).to_string_lossy()),
                None => format!("the promise of a message to {actor}"),
            }
        }
        None => "a promise".to_owned(),
    }
}

/// A timeout; `None` if it is longer than can be counted.
pub(crate) fn seconds(timeout: f64) -> PyResult<Option<Duration>> {
    if timeout.is_nan() {
        return Err(PyValueError::new_err("timeout is a number of seconds, not nan"));
    }
    Ok(Duration::try_from_secs_f64(timeout.max(0.0)).ok())
}

/// Python would otherwise ask for the parts 0, 1, 2 and so on, each of which is a promise.
fn not_there_yet() -> PyErr {
    PyTypeError::new_err(
        "a promise is not the value that it will have: `await` it, take its result(), or use on(...), and iterate over \
         what that gives",
    )
}

fn outcome_result(py: Python<'_>, outcome: Outcome<PyHost>) -> PyResult<Bound<'_, PyAny>> {
    match outcome {
        Outcome::Fulfilled(value) => sealed::opened(py, value),
        Outcome::Broken(error) => Err(error.into()),
    }
}

/// A synchronous call of a promise (SYN-04 to SYN-06): a settled one stands for its value.
pub(crate) fn call<'py>(
    promise: &Bound<'py, Promise>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = promise.py();
    let churn = current_turn("calling a promise")?;
    let value = match churn.outcome(py, promise.as_unbound()) {
        Some(outcome) => outcome_result(py, outcome)?,
        None => {
            return Err(no_turn_error(
                "the promise has not settled yet, so it can't be called: use send(...), on(...) or await",
            ));
        }
    };
    match value.cast_exact::<Ref>() {
        Ok(actor) if churn.is_near(actor.as_unbound()) => invoke(&churn, actor, method, args),
        Ok(actor) => crate::refs::call(actor, method, args),
        Err(_) => match method {
            None => Ok(value),
            Some(_) => {
                let value = crate::behavior::describe_value(&value);
                Err(kernel_error(&KernelError::NotAnActor { value }))
            }
        },
    }
}
